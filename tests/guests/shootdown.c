/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One CPU changes page tables that the others are using: with the new entry come
 * an interrupt to everybody and an INVLPG by each. From the moment at which all have
 * said so, nobody goes by the old entry any more. Until then both are right.
 *
 * And what CPUs do to page tables without being asked: accessed and dirty bits, set
 * by one while another changes the same entry with locked instructions.
 *
 *   rounds=N	how often each thing is tried
 */
#include "lib/cpu.h"
#include "lib/crew.h"
#include "lib/paging.h"

#define TEST	  (1ull << 40)
#define FRAMES	  MiB(32) /* free memory: the pages that come to TEST */
#define CELL_SIZE 64u	  /* where each CPU writes */

enum { VECTOR_PF = 14, VECTOR_FLUSH = 0x61 };

#define TOGGLES 10000u	     /* a round */
#define TOGGLED (1ull << 52) /* of an entry: left to software */

static struct {
	unsigned cpus, rounds, round;
	u64 *entry;
	volatile bool stop;
	/* By each CPU. */
	volatile unsigned acknowledged[CREW_MOST];
	volatile u64 progress[CREW_MOST], faults[CREW_MOST], result[CREW_MOST];
} state;

static u64 frame(unsigned which)
{
	return FRAMES + which * PAGE;
}

static volatile u64 *cell(u64 page, unsigned cpu)
{
	return (volatile u64 *)(page + cpu * CELL_SIZE);
}

static void on_interrupt(u8 vector)
{
	if (vector != VECTOR_FLUSH)
		return;
	paging_invalidate(TEST);
	state.acknowledged[crew_self()] = state.round;
}

/* Who may not go on waits until he may, and meanwhile lets others interrupt him. */
static bool on_fault(struct frame *fault)
{
	const u64 rights = PTE_PRESENT | PTE_WRITE;

	if (fault->vector != VECTOR_PF || read_cr2() / PAGE != TEST / PAGE)
		return false;
	state.faults[crew_self()]++;
	interrupts_on();
	wait_for((*(volatile u64 *)state.entry & rights) == rights);
	interrupts_off();
	paging_invalidate(TEST);
	return true;
}

/* ------------------------------------------------------------------ the others */

static void prepare_cpu(void)
{
	write_cr0(read_cr0() | X86_CR0_WP);
}

static void write_on(void)
{
	unsigned self = crew_self();

	while (!state.stop) {
		asm volatile("incq %0" : "+m"(*cell(TEST, self)) : : "cc");
		state.progress[self]++;
		pause();
	}
}

static void read_on(void)
{
	unsigned self = crew_self();

	while (!state.stop) {
		state.result[self] = *cell(TEST, CREW_MOST);
		state.progress[self]++;
		pause();
	}
}

static void run_on(void)
{
	unsigned self = crew_self();
	u32 result;

	while (!state.stop) {
		asm volatile("call *%1" : "=a"(result) : "r"(TEST) : "memory", "cc");
		state.result[self] = result;
		state.progress[self]++;
		pause();
	}
}

/* ------------------------------------------------------------------ the first */

/* True: all have forgotten the old one. */
static bool change(u64 entry)
{
	*(volatile u64 *)state.entry = entry;
	paging_invalidate(TEST);
	state.round++;
	barrier();
	for (unsigned cpu = 1; cpu < state.cpus; cpu++)
		cpu_send((u8)cpu, VECTOR_FLUSH);
	for (unsigned cpu = 1; cpu < state.cpus; cpu++)
		if (!wait_for(state.acknowledged[cpu] == state.round))
			return false;
	return true;
}

static void begin(void (*work)(void), u64 entry)
{
	state.stop = false;
	*state.entry = entry;
	crew_give_all(work);
	if (!crew_goes_on(state.progress))
		give_up("the others begin");
}

static void end(void)
{
	state.stop = true;
	crew_wait_all();
}

/* Another page in its place: none writes to the old one, and all to the new one. */
static void check_moved(void)
{
	unsigned wrong = 0, hung = 0;

	begin(write_on, frame(0) | PTE_ALL);
	for (unsigned n = 1; n <= state.rounds && !hung; n++) {
		u64 old = frame((n - 1) % 3), new = frame(n % 3);
		u64 before[2][CREW_MOST];

		hung += !change(new | PTE_ALL);
		for (unsigned cpu = 1; cpu < state.cpus; cpu++) {
			before[0][cpu] = *cell(old, cpu);
			before[1][cpu] = *cell(new, cpu);
		}
		hung += !crew_goes_on(state.progress);
		for (unsigned cpu = 1; cpu < state.cpus; cpu++) {
			wrong += *cell(old, cpu) != before[0][cpu];
			wrong += *cell(new, cpu) == before[1][cpu];
		}
	}
	end();
	check_equal(hung, 0, "a page that is moved, %u times", state.rounds);
	check_equal(wrong, 0, "writes go where it is");
}

static void check_read(void)
{
	unsigned wrong = 0, hung = 0;

	for (unsigned i = 0; i < 3; i++)
		*cell(frame(i), CREW_MOST) = i;
	begin(read_on, frame(0) | PTE_ALL);
	for (unsigned n = 1; n <= state.rounds && !hung; n++) {
		hung += !change(frame(n % 3) | PTE_ALL) || !crew_goes_on(state.progress);
		for (unsigned cpu = 1; cpu < state.cpus; cpu++)
			wrong += state.result[cpu] != n % 3;
	}
	end();
	check_equal(hung + wrong, 0, "and reads come from there");
}

static void check_run(void)
{
	unsigned wrong = 0, hung = 0;

	for (unsigned i = 0; i < 3; i++) {
		u8 *code = (u8 *)frame(i);

		code[0] = 0xb8; /* mov $i, %eax; ret */
		*(u32 *)(code + 1) = i;
		code[5] = 0xc3;
	}
	begin(run_on, frame(0) | PTE_ALL);
	for (unsigned n = 1; n <= state.rounds && !hung; n++) {
		hung += !change(frame(n % 3) | PTE_ALL) || !crew_goes_on(state.progress);
		for (unsigned cpu = 1; cpu < state.cpus; cpu++)
			wrong += state.result[cpu] != n % 3;
	}
	end();
	check_equal(hung + wrong, 0, "and what is run lies there");
}

/* A right is taken away: all fault, none writes; then it is given back. */
static void check_taken_away(const char *name, u64 denied)
{
	unsigned wrong = 0, hung = 0;

	for (unsigned cpu = 0; cpu < state.cpus; cpu++)
		state.faults[cpu] = 0;
	begin(write_on, frame(0) | PTE_ALL);
	for (unsigned n = 1; n <= state.rounds && !hung; n++) {
		u64 before[CREW_MOST];

		hung += !change((frame(0) | PTE_ALL) & ~denied);
		for (unsigned cpu = 1; cpu < state.cpus; cpu++)
			before[cpu] = *cell(frame(0), cpu);
		for (unsigned cpu = 1; cpu < state.cpus; cpu++)
			hung += !wait_for(state.faults[cpu] >= n);
		for (unsigned cpu = 1; cpu < state.cpus; cpu++)
			wrong += *cell(frame(0), cpu) != before[cpu];
		*(volatile u64 *)state.entry = frame(0) | PTE_ALL;
		hung += !crew_goes_on(state.progress);
	}
	end();
	check_equal(hung, 0, "%s, %u times", name, state.rounds);
	check_equal(wrong, 0, "and nobody writes there meanwhile");
	for (unsigned cpu = 1; cpu < state.cpus; cpu++)
		wrong += state.faults[cpu] < state.rounds;
	check_equal(wrong, 0, "but all try");
}

/* ------------------------------------------------------------------ accessed and dirty */

static void touch(void)
{
	unsigned self = crew_self();

	while (!state.stop) {
		paging_invalidate(TEST);
		*cell(TEST, self) = 1;
		state.progress[self]++;
	}
}

/*
 * An entry that one CPU changes all the time, with locked instructions, while the others set its
 * dirty bit: neither change is lost. Nor is what was written, because whoever clears the bit
 * believes that the page is clean.
 */
static void check_dirty(void)
{
	volatile u64 *entry = state.entry;
	unsigned wrong = 0, lost = 0;
	u64 toggled = 0;

	begin(touch, frame(0) | PTE_ALL);
	for (unsigned n = 0; n < state.rounds * TOGGLES; n++) {
		asm volatile("lock xorq %1, %0" : "+m"(*entry) : "r"(TOGGLED) : "cc");
		toggled ^= TOGGLED;
		wrong += (*entry & TOGGLED) != toggled;
		/* So that there is always something to be set. */
		asm volatile("lock andq %1, %0"
			     : "+m"(*entry)
			     : "e"((int)~(PTE_ACCESSED | PTE_DIRTY))
			     : "cc");
		if (n % TOGGLES == 0) {
			wrong += !crew_goes_on(state.progress);
			lost += !(*entry & PTE_DIRTY);
		}
	}
	end();
	check_equal(wrong, 0, "an entry that all CPUs change: software's bits");
	check_equal(lost, 0, "and the dirty bit");
	check_equal(*entry & ~(TOGGLED | PTE_DIRTY | PTE_ACCESSED), frame(0) | PTE_ALL,
		    "and nothing else");
}

void guest_main(const struct boot *boot)
{
	interrupt_init();
	interrupt_handler(on_interrupt);
	interrupt_hook(on_fault);
	state.entry = paging_entry(TEST, LEVEL_PAGE);
	state.cpus = crew_muster(boot);
	state.rounds = crew_rounds(boot, 60);
	prepare_cpu();
	crew_give_all(prepare_cpu);
	crew_wait_all();
	check_moved();
	check_read();
	check_run();
	check_taken_away("a page that is taken away", PTE_PRESENT);
	check_taken_away("a page that may only be read", PTE_WRITE);
	check_dirty();
}
