/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Returns to where nobody called from, and calls that never return: a callee that
 * changes its return address, stacks that are unwound, exchanged or very deep, code
 * that is another when its callee returns, and returns that go round and round with
 * no call among them. An engine that foresees where a return goes must be right
 * about it whatever happens meanwhile; the architecture knows nothing but the stack
 * (Intel SDM 1, "Procedure Calls, Interrupts, and Exceptions").
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define TIMES	     2000
#define DEPTH	     3000
#define DEEP_STACK   KiB(512)
#define VECTOR_GP    13
#define VECTOR_TIMER 0x42
#define LVT_PERIODIC (1 << 17)
#define PERIOD	     2000000
#define INTERRUPTS   20
#define ATTEMPTS     1000000
#define ROUNDS	     1000 /* before an interrupt that counts */
/* Free memory for code, and where it is mapped: in a large page's place that has none. */
#define FRAMES MiB(32)
#define PLACE  ((1ull << 40) + MiB(2) * 37)
#define OTHER  (PLACE + MiB(2) * 5)

/* A function of assembly; rbx and rbp are its caller's. */
#define FUNCTION(name, ...)                                                                        \
	u64 name(u64 argument);                                                                    \
	asm(".pushsection .text\n" #name ": " __VA_ARGS__ "\n.popsection")

/* Its callee goes back to one of three places, as the argument says. */
FUNCTION(returns_elsewhere, "call 4f\n 1: mov $1, %eax; ret\n 2: mov $2, %eax; ret\n"
			    "3: mov $3, %eax; ret\n"
			    "4: lea 1b(%rip), %rax; lea 2b(%rip), %rcx; lea 3b(%rip), %rdx;"
			    "cmp $1, %edi; cmove %rcx, %rax; cmova %rdx, %rax;"
			    "mov %rax, (%rsp); ret");
/* Three calls deep, and back at once; one frame at a time if the argument is odd. */
FUNCTION(unwinds, "push %rbx; xor %ebx, %ebx; call 1f; lea 1(%rbx), %rax; pop %rbx; ret\n"
		  "1: call 2f; add $2, %ebx; ret\n"
		  "2: call 3f; add $4, %ebx; ret\n"
		  "3: test $1, %dil; jnz 4f; add $16, %rsp\n 4: ret");
/* As many returns as that through one call's return address: it is put back again and again. */
FUNCTION(returns_again, "xor %eax, %eax; call 2f; inc %eax; cmp %edi, %eax; je 1f; sub $8, %rsp\n"
			"2: ret\n 1: ret");
/* Adds up how deep it was at each level, on a stack of its own. */
FUNCTION(recurses, "push %rbp; mov %rsp, %rbp; lea deep_stack_end(%rip), %rsp;"
		   "call 1f; mov %rbp, %rsp; pop %rbp; ret\n"
		   "1: test %edi, %edi; jz 2f; push %rdi; dec %edi; call 1b; pop %rdi;"
		   "add %rdi, %rax; ret\n"
		   "2: xor %eax, %eax; ret");
/* The stack that is returned from shrinks by what the callee was given, too. */
FUNCTION(takes_along, "push %rbp; mov %rsp, %rbp; push %rdi; push %rdi; call 1f;"
		      "mov %rbp, %rax; sub %rsp, %rax; mov %rbp, %rsp; pop %rbp; ret\n"
		      "1: test $1, %dil; jz 2f; ret $16\n 2: ret $8");

u8 deep_stack[DEEP_STACK] __attribute__((aligned(16)));
asm(".globl deep_stack_end; .set deep_stack_end, deep_stack + 512 * 1024");

/* Two that take turns. The other one, on a stack of its own, adds 1 and 1000 by turns. */
void take_turns(u64 **other);
void other_one(void);
u64 *other_stack_pointer, other_sum;
asm(".pushsection .text\n"
    "take_turns: push %rbp; push %rbx; xchg %rsp, (%rdi); pop %rbx; pop %rbp; ret\n"
    "other_one: incq other_sum(%rip); lea other_stack_pointer(%rip), %rdi; call take_turns;"
    "addq $1000, other_sum(%rip); lea other_stack_pointer(%rip), %rdi; call take_turns;"
    "jmp other_one\n"
    ".popsection");

static void check_stacks(void)
{
	u64 wrong[3] = {0};

	for (u64 n = 0; n < TIMES; n++) {
		u64 lot = n * n % 7;

		wrong[0] += returns_elsewhere(lot % 3) != lot % 3 + 1;
		wrong[1] += unwinds(lot) != (lot & 1 ? 7 : 1);
		wrong[2] += takes_along(lot) != (lot & 1 ? 0 : 8);
	}
	check_equal(wrong[0], 0, "return addresses that the callee changes");
	check_equal(wrong[1], 0, "returns over the heads of callers");
	check_equal(wrong[2], 0, "returns that release arguments");
	check_equal(returns_again(TIMES), TIMES, "returns without calls");
	for (unsigned n = 0; n < 3; n++)
		check_equal(recurses(DEPTH), (u64)DEPTH * (DEPTH + 1) / 2, "deep recursion");
}

static void check_turns(void)
{
	static u64 stack[64];
	u64 wrong = 0, sum = 0;

	other_stack_pointer = &stack[ARRAY_SIZE(stack) - 3];
	other_stack_pointer[2] = (u64)other_one;
	for (unsigned n = 0; n < TIMES; n++) {
		take_turns(&other_stack_pointer);
		sum += n % 2 ? 1000 : 1;
		wrong += other_sum != sum;
	}
	check_equal(wrong, 0, "stacks that take turns");
}

/* ------------------------------------------------------------------ other code when it returns */

/* Forgets one page, calls, and says which frame it was returned to. */
extern const u8 caller[], caller_number[], caller_end[];
asm(".pushsection .text\n"
    "caller: invlpg (%rdx); call *%rsi; mov $0, %eax\n caller_number: ret\n caller_end:\n"
    ".popsection");

static void by_invlpg(void)
{
	paging_invalidate(PLACE);
}

static void by_cr3(void)
{
	paging_set_root(paging_root());
}

static void by_pge(void)
{
	write_cr4(read_cr4() ^ X86_CR4_PGE);
}

static u64 frame(unsigned n)
{
	return FRAMES + n * PAGE;
}

static void show(u64 place, unsigned n)
{
	*paging_entry(place, LEVEL_PAGE) = frame(n) | PTE_PRESENT | PTE_WRITE;
}

static struct {
	unsigned frame;
	void (*forget)(void);
} exchange;

/* What the code on a frame calls: then it is on another. */
static void exchange_frames(void)
{
	show(PLACE, exchange.frame);
	exchange.forget();
}

static void do_nothing(void)
{
}

static u32 run(u64 place, void (*callee)(void), u64 forget)
{
	u32 result;

	asm volatile("call *%%rcx"
		     : "=a"(result), "+c"(place), "+S"(callee), "+d"(forget)
		     :
		     : "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
	return result;
}

/* `forget`: what the caller makes the CPU forget before it calls. */
static unsigned count_wrong(void (*by)(void), u64 forget)
{
	unsigned wrong = 0;

	exchange.forget = by;
	for (unsigned n = 0; n < 100; n++) {
		show(PLACE, n % 2);
		paging_invalidate(PLACE);
		exchange.frame = (n + n / 2) % 2;
		run(OTHER, do_nothing, 0);
		wrong += run(PLACE, do_nothing, 0) != n % 2;
		wrong += run(PLACE, exchange_frames, forget) != exchange.frame;
		wrong += run(PLACE, do_nothing, 0) != exchange.frame;
	}
	return wrong;
}

static void check_exchange(void)
{
	static const struct {
		const char *name;
		void (*by)(void);
	} ways[] = {{"INVLPG", by_invlpg}, {"CR3", by_cr3}, {"CR4.PGE", by_pge}};

	for (unsigned n = 0; n < 3; n++) {
		memcpy((void *)frame(n), caller, (size_t)(caller_end - caller));
		*(u32 *)(frame(n) + (u64)(caller_number - caller) - sizeof(u32)) = n;
	}
	show(OTHER, 2);
	for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
		check_equal(count_wrong(ways[i].by, 0), 0,
			    "other code at the return address, by %s", ways[i].name);
		check_equal(count_wrong(ways[i].by, OTHER), 0,
			    "the same, when other code was forgotten, by %s", ways[i].name);
		check_equal(count_wrong(ways[i].by, PLACE), 0,
			    "the same, when the caller's was forgotten, by %s", ways[i].name);
	}
}

/* ------------------------------------------------------------------ faults and interrupts */

SNIPPET(releases, "push %rdi", "ret $16");
/* Through one return address for ever. */
SNIPPET(for_ever, "push %rdi; push %rdi; call 2f; 1: sub $8, %rsp; inc %rdi; 2:", "ret");

static void check_fault(void)
{
	struct trap trap;
	unsigned wrong = 0;

	for (unsigned n = 0; n < 100; n++) {
		trap_run_user(user_address(releases), 0x8000000000000000, 0, &trap);
		wrong += trap.frame.vector != VECTOR_GP ||
			 trap.frame.rip != user_address(releases_at) ||
			 trap.frame.rsp != trap_user_stack() - 8;
	}
	/* qemu's emulated CPU goes there first. */
	if (!cpu_deviates("a return to nowhere leaves its stack"))
		check_equal(wrong, 0, "a return to nowhere leaves its stack");
}

static void check_interrupts(void)
{
	struct trap trap;
	unsigned came = 0;

	lapic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | VECTOR_TIMER);
	lapic_write(LAPIC_TIMER_INITIAL, PERIOD);
	/* Not what rang before it began. */
	for (unsigned n = 0; n < ATTEMPTS && came < INTERRUPTS; n++) {
		trap_run_user(user_address(for_ever), 0, X86_EFLAGS_IF, &trap);
		came += trap.frame.vector == VECTOR_TIMER && trap.frame.rdi > ROUNDS;
	}
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
	check_equal(came, INTERRUPTS, "returns that never end are interrupted");
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	check_stacks();
	check_turns();
	check_exchange();
	check_fault();
	check_interrupts();
}
