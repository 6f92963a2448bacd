/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Waking up further CPUs: see cpus.h. The code that they begin with is in
 * trampoline.S.
 */
#include "lib/cpus.h"

extern const u8 trampoline[], trampoline_end[];
extern u32 next_stack;

void cpus_prepare(u8 (*stacks)[STACK_SIZE])
{
	next_stack = (u32)(u64)stacks;
	memcpy((void *)TRAMPOLINE, trampoline, (size_t)(trampoline_end - trampoline));
}

/* It takes two writes, and an interrupt between them might send something of its own. */
void cpu_send(u8 apic_id, u32 message)
{
	u64 flags;

	asm volatile("pushfq; pop %0; cli" : "=r"(flags) : : "memory");
	lapic_write(LAPIC_ICR_TARGET, (u32)apic_id << 24);
	lapic_write(LAPIC_ICR, message);
	while (lapic_read(LAPIC_ICR) & ICR_PENDING)
		pause();
	asm volatile("push %0; popfq" : : "r"(flags) : "memory", "cc");
}

void cpu_send_init(u8 apic_id)
{
	cpu_send(apic_id, ICR_INIT);
}

void cpu_send_startup(u8 apic_id)
{
	cpu_send(apic_id, ICR_STARTUP | TRAMPOLINE >> 12);
}
