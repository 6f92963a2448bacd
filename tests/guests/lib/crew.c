/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Further CPUs that do as they are told: see crew.h.
 */
#include "lib/crew.h"
#include "lib/acpi.h"

static struct {
	u8 stacks[CREW_MOST - 1][STACK_SIZE] __attribute__((aligned(16)));
	void (*volatile work[CREW_MOST])(void); /* NULL: sleeps, or is about to */
	volatile unsigned here;
} crew = {.here = 1};

/* They came one after the other, and took stacks in that order. */
unsigned crew_self(void)
{
	u64 offset = (u64)__builtin_frame_address(0) - (u64)crew.stacks;

	return offset < sizeof(crew.stacks) ? (unsigned)(offset / STACK_SIZE) + 1 : 0;
}

void ap_main(void)
{
	unsigned self = crew_self();

	interrupt_join();
	crew.here++;
	for (;;) {
		interrupts_off();
		if (!crew.work[self]) {
			/* Whoever calls now wakes us from the HLT. */
			asm volatile("sti; hlt" : : : "memory");
			continue;
		}
		interrupts_on();
		crew.work[self]();
		crew.work[self] = NULL;
	}
}

unsigned crew_muster(const struct boot *boot)
{
	unsigned cpus = acpi_cpu_count(boot);

	if (cpus < 2 || cpus > CREW_MOST)
		give_up("there are 2 to %u CPUs, and not %u", CREW_MOST, cpus);
	cpus_prepare(crew.stacks);
	for (unsigned cpu = 1; cpu < cpus; cpu++) {
		cpu_send_init((u8)cpu);
		linger();
		cpu_send_startup((u8)cpu);
		if (!wait_for(crew.here > cpu))
			give_up("CPU %u starts", cpu);
	}
	return cpus;
}

unsigned crew_rounds(const struct boot *boot, unsigned fit)
{
	unsigned rounds = 0;
	char text[12];

	if (!boot_option(boot, "rounds", text, sizeof(text)))
		return crew.here > 2 ? (fit + 3) / 4 : fit;
	for (const char *digit = text; *digit >= '0' && *digit <= '9'; digit++)
		rounds = rounds * 10 + (unsigned)(*digit - '0');
	return rounds;
}

void crew_give(unsigned cpu, void (*work)(void))
{
	crew.work[cpu] = work;
	cpu_send((u8)cpu, VECTOR_CREW);
}

void crew_wait(unsigned cpu)
{
	if (!wait_for(!crew.work[cpu]))
		give_up("CPU %u comes back", cpu);
}

void crew_give_all(void (*work)(void))
{
	for (unsigned cpu = 1; cpu < crew.here; cpu++)
		crew_give(cpu, work);
}

void crew_wait_all(void)
{
	for (unsigned cpu = 1; cpu < crew.here; cpu++)
		crew_wait(cpu);
}

bool crew_goes_on(const volatile u64 progress[CREW_MOST])
{
	for (unsigned cpu = 1; cpu < crew.here; cpu++) {
		u64 before = progress[cpu];

		if (!wait_for(progress[cpu] >= before + 2))
			return false;
	}
	return true;
}
