/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jumps to where nothing can be, while a timer interrupts again and again. An engine
 * that looks jumps up in a table calls a CPU out of its code by making the table
 * forget, and what is no entry must not look like one: there are addresses that
 * begged to be mistaken for it. Whoever interrupts, the fault is the jump's
 * (Intel SDM 2, "JMP", "CALL" and "RET").
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define VECTOR_GP    13
#define VECTOR_TIMER 0x42
#define LVT_PERIODIC (1 << 17)
#define PERIOD	     20000
#define INTERRUPTS   50	      /* for each jump, at least */
#define ATTEMPTS     10000000 /* until then */

/*
 * Long enough for the timer to ring in it, and no branch before the one that matters. Not by PAUSE:
 * on a busy host that takes as long as the host likes, and then it always rings in it.
 */
#define SLOW_CODE "jmp 1f; .balign 4096; 1: .rept 200; lock incl -64(%rsp); .endr"

SNIPPET(jump, SLOW_CODE, "jmp *%rdi");
SNIPPET(jump_memory, "push %rdi; " SLOW_CODE, "jmp *(%rsp)");
SNIPPET(call, SLOW_CODE, "call *%rdi");
SNIPPET(ret, "push %rdi; " SLOW_CODE, "ret");

static const struct {
	const char *name;
	const u8 *code, *at;
} jumps[] = {
	{"jmp", jump, jump_at},
	{"jmp through memory", jump_memory, jump_memory_at},
	{"call", call, call_at},
	{"ret", ret, ret_at},
};

/* Not canonical, all of them, and round numbers to somebody. */
static const u64 addresses[] = {
	0xbfffffffffffffff, 0xc000000000000000, 0x4000000000000000, 0x8000000000000000,
	0x0000800000000000, 0xffff7ffffffff000, 0x7fffffffffffffff,
};

static void check_jump(unsigned which, u64 address)
{
	unsigned came = 0, faults = 0, wrong = 0;
	struct trap trap;

	for (unsigned n = 0; n < ATTEMPTS && came < INTERRUPTS; n++) {
		trap_run((u64)jumps[which].code, address, X86_EFLAGS_IF, &trap);
		if (trap.frame.vector == VECTOR_TIMER)
			came++;
		else if (trap.frame.vector == VECTOR_GP && !trap.frame.error &&
			 trap.frame.rip == (u64)jumps[which].at)
			faults++;
		else
			wrong++;
	}
	if (!check(came == INTERRUPTS && faults && !wrong, "%s to %lx: a fault, and the jump's",
		   jumps[which].name, address))
		print("  %u interrupts, %u faults, %u others, the last at %lx\n", came, faults,
		      wrong, trap.frame.rip);
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	if (cpu_deviates("a jump to where nothing can be: a fault, and the jump's"))
		return;
	lapic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | VECTOR_TIMER);
	lapic_write(LAPIC_TIMER_INITIAL, PERIOD);
	for (unsigned i = 0; i < ARRAY_SIZE(jumps); i++)
		for (unsigned k = 0; k < ARRAY_SIZE(addresses); k++)
			check_jump(i, addresses[k]);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
}
