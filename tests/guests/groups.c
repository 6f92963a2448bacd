/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions that access neighbours: pushes and pops, fields of a structure. An engine may look
 * at the page once for all of them; nobody may notice. So here such runs begin and end at each
 * distance from the end of a page, and the page behind it is there, or is not, or is read-only, or
 * has code, or is another one than the last time; and each must fault at the instruction at which
 * it has to, with what came before it done and nothing else.
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define VECTOR_GP 13
#define VECTOR_PF 14

#define TEST	((1ull << 40) + 100 * PAGE) /* not where a TLB has the frames */
#define FRAME	MiB(32)
#define WORDS	6u /* that a run accesses, of 8 bytes */
#define REACH	(WORDS * 8 + 16)
#define PATTERN 0x1122334455667700ull

/* Each instruction that may fault is so long, in bytes; the runs below see to it. */
#define STORE_LENGTH 4u
#define PUSH_LENGTH  1u

/* Words upwards, through one register, the last one first. */
SNIPPET(stores, "",
	"mov %rax, 40(%rdi)\n mov %rax, 32(%rdi)\n mov %rax, 24(%rdi)\n mov %rax, 16(%rdi)\n"
	"mov %rax, 8(%rdi)\n .byte 0x48, 0x89, 0x47, 0x00\n");
SNIPPET(pushes, "mov %rdi, %rsp\n mov $-1, %ebx\n add $1, %ebx\n",
	"push %rax\n push %rcx\n push %rdx\n push %rbx\n push %rbp\n push %rsi\n");
SNIPPET(pops, "mov %rdi, %rsp\n",
	"pop %rax\n pop %rcx\n pop %rdx\n pop %rbx\n pop %rbp\n pop %rsi\n");

/* Pairs that count together, for ever. */
SNIPPET(pairs, "",
	"1: mov (%rdi), %rax\n mov 8(%rdi), %rcx\n cmp %rax, %rcx\n jne 2f\n"
	"inc %rax\n inc %rcx\n mov %rax, (%rdi)\n mov %rcx, 8(%rdi)\n"
	"push %rax\n push %rcx\n pop %rdx\n pop %rbx\n"
	"cmp %rax, %rbx\n jne 2f\n cmp %rdx, %rcx\n je 1b\n 2: ud2\n");

static void show(u64 page, u64 frame, u64 bits)
{
	*paging_entry(page, LEVEL_PAGE) = frame | bits;
	paging_invalidate(page);
}

static void clear(u64 from)
{
	for (u64 at = from; at < from + REACH; at += 8)
		*(u64 *)at = PATTERN;
}

/* The same bytes, where they are mapped for good: two frames, one behind the other. */
static u64 *word(u64 address)
{
	return (u64 *)(FRAME + (address - TEST));
}

struct wanted {
	unsigned done; /* so many words were written */
	u64 cr2;
};

/* Upwards or downwards from `first`: what is before the first word that lies in the other page? */
static struct wanted expect(u64 first, int step, u64 forbidden)
{
	struct wanted wanted = {WORDS, 0};

	for (unsigned n = 0; n < WORDS; n++) {
		u64 from = first + (s64)step * n, to = from + 7;

		if (to < forbidden || from >= forbidden + PAGE)
			continue;
		wanted.done = n;
		wanted.cr2 = from < forbidden ? forbidden : from;
		break;
	}
	return wanted;
}

static unsigned count_wrong(const struct trap *trap, const struct wanted *wanted, u64 first,
			    int step, u64 code, unsigned length)
{
	unsigned wrong = 0;

	for (unsigned n = 0; n < WORDS; n++)
		wrong += (*word(first + (s64)step * n) != PATTERN) != (n < wanted->done);
	if (wanted->done == WORDS)
		return wrong + (trap->frame.vector != VECTOR_END);
	wrong += trap->frame.vector != VECTOR_PF || trap->cr2 != wanted->cr2;
	return wrong + (trap->frame.rip != code + wanted->done * length);
}

/* `bits` of the second page's entry, or of the first one's. */
static void check_writes(const char *name, u64 bits, bool second)
{
	u64 end = TEST + PAGE, forbidden = second ? end : TEST;
	bool allowed = bits & PTE_PRESENT && bits & PTE_WRITE;
	unsigned wrong[2] = {0};
	struct trap trap;

	show(TEST, FRAME, second ? PTE_ALL : bits);
	show(end, FRAME + PAGE, second ? bits : PTE_ALL);
	for (u64 at = end - REACH; at < end + 16; at++) {
		u64 last = at + (WORDS - 1) * 8;
		struct wanted wanted = expect(last, -8, allowed ? 0 : forbidden);

		for (unsigned again = 0; again < 2; again++) {
			clear((u64)word(at));
			trap_run((u64)stores, at, 0, &trap);
			wrong[0] +=
				count_wrong(&trap, &wanted, last, -8, (u64)stores_at, STORE_LENGTH);
			clear((u64)word(at));
			trap_run((u64)pushes, at + WORDS * 8, 0, &trap);
			wrong[1] +=
				count_wrong(&trap, &wanted, last, -8, (u64)pushes_at, PUSH_LENGTH);
			/* A fault shows the flags of the last ADD: zero. */
			wrong[1] += !(trap.frame.rflags & X86_EFLAGS_ZF);
			if (wanted.done < WORDS)
				wrong[1] += trap.frame.rsp != last + 8 - wanted.done * 8;
		}
	}
	check_equal(wrong[0], 0, "stores beside each other, %s", name);
	check_equal(wrong[1], 0, "pushes, %s", name);
}

/* The same code at the same address: what is there now, not what was there when it last ran. */
static void check_changes(void)
{
	unsigned wrong = 0;
	struct trap trap;

	show(TEST + PAGE, FRAME + PAGE, PTE_ALL);
	for (unsigned n = 0; n < 200; n++) {
		u64 frame = FRAME + (2 + n % 3) * PAGE, *words = (u64 *)(frame + 128);

		clear((u64)words);
		show(TEST, frame, PTE_ALL);
		trap_run((u64)stores, TEST + 128, 0, &trap);
		for (unsigned i = 0; i < WORDS; i++)
			wrong += words[i] == PATTERN;
		if (n % 5)
			continue;
		show(TEST, frame, PTE_PRESENT);
		trap_run((u64)stores, TEST + 128, 0, &trap);
		wrong += trap.frame.vector != VECTOR_PF || trap.cr2 != TEST + 128 + (WORDS - 1) * 8;
	}
	check_equal(wrong, 0, "pages that change between two runs");
}

static u32 call(u64 code, u64 argument, u64 number)
{
	u32 result;

	asm volatile("call *%1"
		     : "=a"(result), "+r"(code), "+D"(argument), "+d"(number)
		     :
		     : "rcx", "rsi", "memory", "cc");
	return result;
}

#define CODE   (FRAME + 8 * PAGE)
#define JUMP   11 /* offsets in the code: a jump to its end, */
#define NUMBER 18 /* and in the end, which is behind the words: its number */

/*
 * Stores beside each other, and into an instruction that runs next: mov %rsi, 0(%rdi); mov %rcx,
 * 8(%rdi); mov %edx, 18(%rdi); jmp to rdi + 17, where there is mov $n, %eax; ret.
 */
static void check_code(void)
{
	static const u8 begin[] = {0x48, 0x89, 0x77, 0x00, 0x48,   0x89,
				   0x4f, 0x08, 0x89, 0x57, NUMBER, 0xe9};
	unsigned wrong = 0;

	for (u32 n = 0; n < 200; n++) {
		u64 words = CODE + 256 + 64 * (n % 4);
		int32_t distance = words + NUMBER - 1 - (CODE + JUMP + 5);

		memcpy((u8 *)CODE, begin, sizeof(begin));
		memcpy((u8 *)CODE + JUMP + 1, &distance, sizeof(distance));
		*(volatile u8 *)(words + NUMBER - 1) = 0xb8;
		*(volatile u8 *)(words + NUMBER + 4) = 0xc3;
		wrong += call(CODE, words, n) != n;
	}
	check_equal(wrong, 0, "stores into a page that has code");
}

/* Less than a page of words, from an argument's address on: as many as its low bits say. */
SNIPPET(fill_words, "mov %edi, %ecx\n and $0xfff, %ecx\n xor %eax, %eax\n cld\n", "rep stosq\n");

/*
 * Addresses that no page has, but that an engine may have put in its tables for nothing: strings
 * that begin at them, before them, and end in or behind them.
 */
static void check_strings(void)
{
	unsigned wrong = 0;
	struct trap trap;

	for (u64 page = 0; page < 1024; page++)
		for (u64 words = 0x200; words <= 0xe00; words += 0x200) {
			trap_run((u64)fill_words, (1ull << 62) + page * PAGE + words, 0, &trap);
			wrong += trap.frame.vector != VECTOR_GP ||
				 trap.frame.rip != (u64)fill_words_at;
		}
	check_equal(wrong, 0, "strings where there is nothing");
}

#define TIMER	 0x52
#define SHORTEST 500u /* ticks of the timer */
#define LONGEST	 30000u

/* Whatever an engine does is interrupted at each place: by its host's clock, where there is one. */
static void check_interrupted(void)
{
	u64 *words = (u64 *)(FRAME + 64);
	unsigned wrong = 0;
	u64 before = 0;
	struct trap trap;

	lapic_write(LAPIC_LVT_TIMER, TIMER);
	for (unsigned n = 0; n < 400; n++) {
		words[0] = words[1] = before;
		lapic_write(LAPIC_TIMER_INITIAL, SHORTEST + n * 7919 % (LONGEST - SHORTEST));
		if (n % 2)
			trap_run_user(user_address(pairs), user_address(words), X86_EFLAGS_IF,
				      &trap);
		else
			trap_run((u64)pairs, (u64)words, X86_EFLAGS_IF, &trap);
		interrupt_end();
		wrong += trap.frame.vector != TIMER || words[0] - words[1] > 1;
		before = words[0];
	}
	check_equal(wrong, 0, "pairs that are interrupted");
	check(before, "and not before they began");
}

void guest_main(const struct boot *boot)
{
	struct trap trap;
	unsigned wrong = 0;

	(void)boot;
	trap_init();
	/* Handlers have stacks of their own: that of the code here may not be there. */
	interrupt_gate(VECTOR_PF)->stack = 1;
	interrupt_gate(VECTOR_END)->stack = 1;
	write_cr0(read_cr0() | X86_CR0_WP);
	check_writes("both pages there", PTE_ALL, true);
	check_writes("the second page absent", 0, true);
	check_writes("the second page read-only", PTE_PRESENT, true);
	check_writes("the first page absent", 0, false);
	check_writes("the first page read-only", PTE_PRESENT, false);
	show(TEST, FRAME, PTE_ALL);
	show(TEST + PAGE, FRAME + PAGE, 0);
	for (u64 at = TEST + PAGE - REACH; at < TEST + PAGE; at++) {
		struct wanted wanted = expect(at, 8, TEST + PAGE);

		trap_run((u64)pops, at, 0, &trap);
		if (wanted.done == WORDS)
			wrong += trap.frame.vector != VECTOR_END;
		else
			wrong += trap.frame.vector != VECTOR_PF || trap.cr2 != wanted.cr2 ||
				 trap.frame.rsp != at + wanted.done * 8;
	}
	check_equal(wrong, 0, "pops, the second page absent");
	check_changes();
	check_code();
	check_strings();
	check_interrupted();
}
