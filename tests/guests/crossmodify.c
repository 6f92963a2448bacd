/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code that one CPU writes and another runs (Intel SDM 3A, "Handling Self- and
 * Cross-Modifying Code"). First as the manual wants it: written while the other
 * waits, and run behind a serializing instruction. Then as kernels do it, under the
 * feet of whoever runs it: a breakpoint first, then the rest, then the first byte,
 * with an interrupt to everybody between them; or one aligned word at once.
 *
 * All code says a number whose four bytes are the same, and the numbers grow: so one
 * that was put together from two can be told, and one that comes back from the dead.
 *
 *   rounds=N	how often each thing is tried
 */
#include "lib/cpu.h"
#include "lib/crew.h"
#include "lib/paging.h"

#define AREA	 MiB(34) /* free memory, for code */
#define ALIAS	 (1ull << 40)
#define NUMBERS	 255u
#define COUNTING 20000u
#define INSN	 5 /* bytes of what is patched */
#define INT3	 0xcc
#define RET	 0xc3
#define SKIPPED	 0x80000001u /* what a breakpoint says */

enum { VECTOR_BP = 3, VECTOR_SYNC = 0x61 };

static struct {
	unsigned cpus, rounds, round;
	volatile bool stop;
	u64 code; /* what the others call */
	volatile u32 asked;
	/* By each CPU. */
	volatile unsigned acknowledged[CREW_MOST];
	volatile u64 progress[CREW_MOST], torn[CREW_MOST], back[CREW_MOST], skipped[CREW_MOST];
	volatile u32 last[CREW_MOST], answered[CREW_MOST];
} state;

static u32 spread(u32 number)
{
	return (number & 0xff) * 0x01010101u;
}

static u32 call(u64 code)
{
	u32 result;

	asm volatile("call *%1" : "=a"(result) : "r"(code) : "memory", "cc");
	return result;
}

static void on_interrupt(u8 vector)
{
	if (vector != VECTOR_SYNC)
		return;
	serialize();
	state.acknowledged[crew_self()] = state.round;
}

/* Who meets a breakpoint is let past what is being patched. */
static bool on_breakpoint(struct frame *frame)
{
	if (frame->vector != VECTOR_BP)
		return false;
	frame->rip += INSN - 1;
	frame->rax = SKIPPED;
	return true;
}

/* ------------------------------------------------------------------ at rest */

/* Runs what it is asked to, when it is asked to. */
static void answer(void)
{
	unsigned self = crew_self();

	for (u32 done = 0; !state.stop;) {
		u32 asked = state.asked;

		if (asked == done) {
			pause();
			continue;
		}
		serialize();
		state.last[self] = call(state.code);
		done = asked;
		state.answered[self] = done;
	}
}

/* mov $number, %eax; ret, in two pages if it so lies. */
static void write_constant(u64 at, u32 value)
{
	*(volatile u8 *)at = 0xb8;
	for (unsigned i = 0; i < 4; i++)
		*(volatile u8 *)(at + 1 + i) = (u8)(value >> 8 * i);
	*(volatile u8 *)(at + INSN) = RET;
}

/* Here too, all bytes change, and the length: it is other code. */
static void write_sum(u64 at, u32 value)
{
	static const u8 sum[] = {0x31, 0xc0, 0x90, 0x05}; /* xor %eax, %eax; nop; add $..., %eax */

	memcpy((void *)at, sum, sizeof(sum));
	memcpy((void *)(at + 4), &value, 4);
	*(volatile u8 *)(at + 8) = RET;
}

static void check_at_rest(const char *name, u64 written, u64 run)
{
	unsigned wrong = 0, hung = 0;

	state.stop = false;
	state.asked = 0;
	state.code = run;
	for (unsigned cpu = 0; cpu < state.cpus; cpu++)
		state.answered[cpu] = 0;
	crew_give_all(answer);
	for (u32 n = 1; n <= state.rounds && !hung; n++) {
		u32 value = spread(n);

		(n % 3 ? write_constant : write_sum)(written, value);
		barrier();
		state.asked = n;
		serialize();
		wrong += call(run) != value;
		for (unsigned cpu = 1; cpu < state.cpus; cpu++) {
			hung += !wait_for(state.answered[cpu] == n);
			wrong += state.last[cpu] != value;
		}
	}
	state.stop = true;
	crew_wait_all();
	check_equal(hung, 0, "%s: replaced %u times", name, state.rounds);
	check_equal(wrong, 0, "%s: and run as it was written", name);
}

/* ------------------------------------------------------------------ under way */

/* Runs it all the time, and looks at what it says. */
static void run_on(void)
{
	unsigned self = crew_self();

	while (!state.stop) {
		u32 result = call(state.code);

		if (result == SKIPPED) {
			state.skipped[self]++;
		} else {
			state.torn[self] += result != spread(result & 0xff);
			state.back[self] += result < state.last[self];
			state.last[self] = result;
		}
		state.progress[self]++;
		pause();
	}
}

static bool all_serialize(void)
{
	state.round++;
	barrier();
	for (unsigned cpu = 1; cpu < state.cpus; cpu++)
		cpu_send((u8)cpu, VECTOR_SYNC);
	for (unsigned cpu = 1; cpu < state.cpus; cpu++)
		if (!wait_for(state.acknowledged[cpu] == state.round))
			return false;
	return true;
}

/* One of four instructions that say a number after XOR EAX, EAX: their first bytes differ. */
static bool patch_by_breakpoint(u64 at, u32 number)
{
	static const u8 opcodes[] = {0xb8, 0x05, 0x35, 0x0d}; /* mov, add, xor, or */
	volatile u8 *insn = (u8 *)at;
	bool well;

	insn[0] = INT3;
	well = all_serialize();
	for (unsigned i = 1; i < INSN; i++)
		insn[i] = (u8)number;
	well = all_serialize() && well;
	insn[0] = opcodes[number % ARRAY_SIZE(opcodes)];
	return all_serialize() && well;
}

#define STUB 16u

/* A jump whose distance is an aligned word, to one of many that each say a number. */
static bool patch_by_word(u64 at, u32 number)
{
	u64 target = AREA + PAGE + number * STUB;

	*(volatile u32 *)at = (u32)(target - (at + 4));
	return all_serialize();
}

/*
 * The same among stores to its neighbours, which an engine may take for one: the page becomes code
 * for the others, and for none of them, between any two.
 */
static bool patch_among_others(u64 at, u32 number)
{
	u64 target = AREA + PAGE + number * STUB;

	for (unsigned i = 0; i < 100; i++)
		asm volatile("mov %0, 64(%1)\n\t"
			     "mov %0, 68(%1)\n\t"
			     "mov %0, (%1)\n\t"
			     "mov %0, 72(%1)"
			     :
			     : "r"((u32)(target - (at + 4))), "r"(at)
			     : "memory");
	return all_serialize();
}

static void check_under_way(const char *name, u64 code, u64 at, bool (*patch)(u64 at, u32 number),
			    bool skips)
{
	unsigned wrong = 0, hung = 0;
	u64 torn = 0, back = 0, skipped = 0;

	state.stop = false;
	state.code = code;
	for (unsigned cpu = 0; cpu < state.cpus; cpu++)
		state.torn[cpu] = state.back[cpu] = state.skipped[cpu] = state.last[cpu] = 0;
	hung += !patch(at, 0);
	crew_give_all(run_on);
	for (u32 n = 1; n <= MIN(state.rounds, NUMBERS) && !hung; n++) {
		hung += !patch(at, n) || !crew_goes_on(state.progress);
		wrong += call(code) != spread(n);
		for (unsigned cpu = 1; cpu < state.cpus; cpu++)
			wrong += state.last[cpu] != spread(n);
	}
	state.stop = true;
	crew_wait_all();
	for (unsigned cpu = 1; cpu < state.cpus; cpu++) {
		torn += state.torn[cpu];
		back += state.back[cpu];
		skipped += state.skipped[cpu];
	}
	check_equal(hung, 0, "%s: patched while others run it", name);
	check_equal(wrong, 0, "%s: what runs in the end is what was written", name);
	check_equal(torn, 0, "%s: nothing between the old and the new was run", name);
	check_equal(back, 0, "%s: and nothing that was no more", name);
	if (!skips)
		check_equal(skipped, 0, "%s: no breakpoint was met", name);
}

static void prepare_stubs(void)
{
	for (u32 n = 0; n <= NUMBERS; n++)
		write_constant(AREA + PAGE + n * STUB, spread(n));
}

static void check_kernels_way(void)
{
	static const u8 function[] = {0x31, 0xc0, 0, 0, 0, 0, 0, RET}; /* xor %eax, %eax */
	/* Within a line; across two lines; across two pages. */
	static const struct {
		const char *name;
		u64 at;
	} places[] = {
		{"int3", AREA + 128},
		{"int3, two lines", AREA + 192 - 4},
		{"int3, two pages", AREA + PAGE - 5},
	};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		memcpy((void *)places[i].at, function, sizeof(function));
		check_under_way(places[i].name, places[i].at, places[i].at + 2, patch_by_breakpoint,
				true);
	}
	prepare_stubs();
	*(volatile u8 *)(AREA + 63) = 0xe9;
	check_under_way("a jump's aligned distance", AREA + 63, AREA + 64, patch_by_word, false);
	check_under_way("among other stores", AREA + 63, AREA + 64, patch_among_others, false);
}

/* ------------------------------------------------------------------ one page for all */

/* incq 2f(%rip); dec %edi; jnz 1b; ret; and the counter, all in the same page. */
extern const u8 counts_beside[], counts_beside_end[];
asm(".pushsection .text\n"
    "counts_beside: incq 2f(%rip); dec %edi; jnz counts_beside; ret\n"
    ".balign 8, 0x90\n 2: .quad 0\n counts_beside_end:\n.popsection");
#define BESIDE 128u /* bytes for each CPU */

static void count_beside(void)
{
	u64 code = AREA + crew_self() * BESIDE;
	u32 times = COUNTING, unused;

	asm volatile("call *%2" : "=a"(unused), "+D"(times) : "r"(code) : "memory", "cc");
}

/* Each counts in its own words and by its own code, but all on one page. */
static void check_counting(void)
{
	u64 size = (u64)(counts_beside_end - counts_beside);

	for (unsigned cpu = 0; cpu < state.cpus; cpu++)
		memcpy((void *)(AREA + cpu * BESIDE), counts_beside, size);
	crew_give_all(count_beside);
	count_beside();
	crew_wait_all();
	for (unsigned cpu = 0; cpu < state.cpus; cpu++)
		check_equal(*(u64 *)(AREA + cpu * BESIDE + size - 8), COUNTING,
			    "CPU %u counts on the page on which all run and count", cpu);
}

/* Two CPUs that write each other's code, on one page, and run their own. */
static void patch_other(void)
{
	unsigned self = crew_self();
	u64 mine = AREA + self * BESIDE, other = AREA + !self * BESIDE;

	for (u32 n = 1; n <= NUMBERS; n++) {
		u32 result;

		/* The word at the end is all of the number, and aligned. */
		*(volatile u32 *)(other + 4) = spread(n);
		serialize();
		result = call(mine + 3);
		state.torn[self] += result != spread(result & 0xff);
		state.back[self] += result < state.last[self];
		state.last[self] = result;
	}
}

static void check_each_other(void)
{
	for (unsigned cpu = 0; cpu < 2; cpu++) {
		write_constant(AREA + cpu * BESIDE + 3, 0);
		state.torn[cpu] = state.back[cpu] = state.last[cpu] = 0;
	}
	serialize();
	crew_give(1, patch_other);
	patch_other();
	crew_wait(1);
	serialize();
	for (unsigned cpu = 0; cpu < 2; cpu++) {
		check_equal(state.torn[cpu] + state.back[cpu], 0,
			    "two CPUs that write each other's code: %u", cpu);
		check_equal(call(AREA + cpu * BESIDE + 3), spread(NUMBERS), "and in the end");
	}
}

void guest_main(const struct boot *boot)
{
	interrupt_init();
	interrupt_handler(on_interrupt);
	interrupt_hook(on_breakpoint);
	for (unsigned n = 0; n < 4; n++)
		paging_set(ALIAS + n * PAGE, LEVEL_PAGE, (AREA + n * PAGE) | PTE_ALL);
	state.cpus = crew_muster(boot);
	state.rounds = crew_rounds(boot, 60);
	check_at_rest("code", AREA, AREA);
	check_at_rest("code at another address", ALIAS + 64, AREA + 64);
	check_at_rest("code in two pages", AREA + PAGE - 3, AREA + PAGE - 3);
	check_kernels_way();
	check_counting();
	check_each_other();
}
