/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code that changes under the feet of whoever runs it: by itself, one instruction
 * or one block ahead; through another mapping of its page; by a device. What runs
 * is always what was written last.
 *
 * A store to where one is running is seen by the next instruction, if both go by
 * the same address; by another address it takes a serializing instruction (Intel
 * SDM 3A, "Handling Self- and Cross-Modifying Code").
 *
 *   input=1	take code from the virtio console, twice, run it, and say what came of it
 */
#include "lib/cpu.h"
#include "lib/trap.h"
#include "lib/virtio.h"

#include <linux/virtio_config.h>

#define AREA  MiB(32) /* free memory, for code */
#define ALIAS (1ull << 40)

#define TIMES 10000

#define WAITING 0x50 /* a vector that nobody takes */

/*
 * Code below that is copied to where it can be changed without disturbing anyone: from `name` to
 * `name`_end. It calls nobody and uses rax, rcx, rdx, rsi, rdi and r8 to r11.
 */
#define CODE(name, ...)                                                                            \
	extern const u8 name[], name##_end[];                                                      \
	asm(".pushsection .text\n" #name ": " __VA_ARGS__ "\n" #name "_end:\n.popsection")

static u64 call(u64 code, u64 argument)
{
	u64 result;

	asm volatile("call *%1"
		     : "=a"(result), "+r"(code), "+D"(argument)
		     :
		     : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
	return result;
}

static u64 place(u64 at, const u8 *code, const u8 *end)
{
	memcpy((void *)at, code, (size_t)(end - code));
	return at;
}

#define PLACE(at, name) place(at, name, name##_end)

/* The immediate of MOV is its last four bytes, from the second on. */
CODE(next_instruction, "movl %edi, 1f+1(%rip)\n 1: mov $0, %eax; ret");
CODE(byte_of_next, "movb %dil, 1f+2(%rip)\n 1: mov $0, %eax; ret");
CODE(next_block, "movl %edi, 1f+1(%rip); jmp 1f; .fill 13, 1, 0x90\n 1: mov $0, %eax; ret");
CODE(branch_over, "movl %edi, 1f+1(%rip); test %edi, %edi; jz 1f; nop\n 1: mov $0, %eax; ret");
CODE(after_call, "call 2f\n 1: mov $0, %eax; ret\n 2: movl %edi, 1b+1(%rip); ret");
CODE(far_ahead, "movl %edi, 1f+1(%rip)\n .fill 400, 1, 0x90\n 1: mov $0, %eax; ret");
CODE(by_exchange, "xchg %edi, 1f+1(%rip)\n 1: mov $0, %eax; ret");
CODE(by_locked_add, "movl $0, 1f+1(%rip); lock add %edi, 1f+1(%rip)\n 1: mov $0, %eax; ret");
CODE(by_compare_exchange, "mov 1f+1(%rip), %eax; lock cmpxchg %edi, 1f+1(%rip)\n"
			  "1: mov $0, %eax; ret");
CODE(by_string, "mov %edi, %eax; lea 1f+1(%rip), %rdi; stosl\n 1: mov $0, %eax; ret");
CODE(by_long_string, "push %rdi; mov %rsp, %rsi; lea 1f+1(%rip), %rdi; mov $4, %ecx; rep movsb\n"
		     "1: mov $0, %eax; pop %rcx; ret");
CODE(by_vector, "movd %edi, %xmm0; movd %xmm0, 1f+1(%rip)\n 1: mov $0, %eax; ret");
CODE(by_push, "mov %rsp, %rcx; lea 1f+8(%rip), %rsp; shl $24, %rdi; mov $0xb8909090, %eax;"
	      "mov %eax, %eax; shl $8, %rdi; or %rax, %rdi; push %rdi\n"
	      "1: nop; nop; nop; mov $0, %eax; mov %rcx, %rsp; ret");
CODE(by_pop, "push %rdi; popq 1f+2(%rip)\n 1: movabs $0, %rax; ret");
CODE(by_increment, "mov %edi, 1f+1(%rip); decl 1f+1(%rip); incl 1f+1(%rip)\n"
		   "1: mov $0, %eax; ret");

/* Each time with another value, and with the old one still translated, decoded or cached. */
static void check_ahead(void)
{
	static const struct {
		const char *name;
		const u8 *code, *end;
		u64 mask;
	} ways[] = {
		{"the next instruction", next_instruction, next_instruction_end, ~0u},
		{"one byte of the next instruction", byte_of_next, byte_of_next_end, 0xff},
		{"the next block", next_block, next_block_end, ~0u},
		{"behind a branch", branch_over, branch_over_end, ~0u},
		{"where a call returns", after_call, after_call_end, ~0u},
		{"400 instructions ahead", far_ahead, far_ahead_end, ~0u},
		{"by xchg", by_exchange, by_exchange_end, ~0u},
		{"by lock add", by_locked_add, by_locked_add_end, ~0u},
		{"by cmpxchg", by_compare_exchange, by_compare_exchange_end, ~0u},
		{"by stos", by_string, by_string_end, ~0u},
		{"by rep movs", by_long_string, by_long_string_end, ~0u},
		{"by movd", by_vector, by_vector_end, ~0u},
		{"by push", by_push, by_push_end, ~0u},
		{"by pop", by_pop, by_pop_end, ~0ull},
		{"by inc and dec", by_increment, by_increment_end, ~0u},
	};

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		u64 wrong = 0, value = 0x1122334455667788;

		place(AREA, ways[i].code, ways[i].end);
		for (unsigned n = 0; n < 200; n++) {
			u64 result = call(AREA, value);

			if (ways[i].mask == 0xff)
				result >>= 8;
			wrong += (result & ways[i].mask) != (value & ways[i].mask);
			value = value << 7 ^ value >> 57 ^ n;
		}
		check_equal(wrong, 0, "patched: %s", ways[i].name);
	}
}

/* Sums up 1 to rdi, with the summand in an instruction. */
CODE(patches_itself, "xor %edx, %edx; movl $1, 1f+1(%rip)\n"
		     "1: mov $0, %eax; add %rax, %rdx; incl 1b+1(%rip); dec %rdi; jnz 1b;"
		     "mov %rdx, %rax; ret");
/* The same in a loop of two blocks, each patching the other. */
CODE(patch_each_other, "xor %edx, %edx; movl $1, 1f+1(%rip)\n"
		       "1: mov $0, %eax; mov %eax, 2f+1(%rip); jmp 2f\n"
		       ".fill 64, 1, 0x90\n"
		       "2: mov $0, %ecx; add %rcx, %rdx; inc %ecx; mov %ecx, 1b+1(%rip);"
		       "dec %rdi; jnz 1b; mov %rdx, %rax; ret");
/* Counts beside itself. */
CODE(counts_beside, "movl $0, 2f(%rip)\n 1: incl 2f(%rip); dec %rdi; jnz 1b;"
		    "mov 2f(%rip), %eax; ret\n 2: .long 0");

/* Every second time round the first block is patched by the second one; the third goes back. */
CODE(patches_first, "xor %edx, %edx; movl $1, 1f+1(%rip); jmp 1f; .fill 13, 1, 0x90\n"
		    "1: mov $0, %eax; add %rax, %rdx; test $1, %dil; jz 2f; incl 1b+1(%rip)\n"
		    "2: dec %rdi; jnz 1b; mov %rdx, %rax; ret");

static void check_loops(void)
{
	const u64 sum = (u64)TIMES * (TIMES + 1) / 2;
	u64 slower_sum = 0;

	for (u64 n = 0; n < TIMES; n++)
		slower_sum += 1 + n / 2;

	check_equal(call(PLACE(AREA, patches_itself), TIMES), sum, "a loop that patches itself");
	check_equal(call(AREA, TIMES), sum, "and once more");
	check_equal(call(PLACE(AREA + 256, patch_each_other), TIMES), sum,
		    "two blocks that patch each other");
	check_equal(call(PLACE(AREA + 512, counts_beside), TIMES), TIMES,
		    "a counter on the page that counts");
	check_equal(call(PLACE(AREA + 768, patches_first), TIMES), slower_sum,
		    "a loop of three blocks of which one patches another");
	/* Here the other code on the page is all of this guest. */
	check_equal(call((u64)patches_itself, TIMES), sum, "a loop amid other code");
}

/* Intel SDM 3A, "Serializing Instructions". */
static void serialize(void)
{
	cpuid(0, 0);
}

CODE(constant, "mov $0, %eax; ret");
CODE(where, "1: lea 1b(%rip), %rax; ret");

static void check_aliases(void)
{
	volatile u32 *here = (u32 *)(AREA + 1), *there = (u32 *)(ALIAS + 1);
	unsigned wrong[4] = {0};

	PLACE(AREA, constant);
	paging_set(ALIAS, LEVEL_PAGE, AREA | PTE_ALL);
	for (u32 n = 1; n < 200; n++) {
		*there = n;
		serialize();
		wrong[0] += call(AREA, 0) != n;
		wrong[1] += call(ALIAS, 0) != n;
		*here = ~n;
		serialize();
		wrong[2] += call(ALIAS, 0) != (u32)~n;
		wrong[3] += call(AREA, 0) != (u32)~n;
	}
	check_equal(wrong[0], 0, "written there, run here");
	check_equal(wrong[1], 0, "written there, run there");
	check_equal(wrong[2], 0, "written here, run there");
	check_equal(wrong[3], 0, "written here, run here");

	PLACE(AREA, where);
	serialize();
	check(call(AREA, 0) == AREA && call(ALIAS, 0) == ALIAS && call(AREA, 0) == AREA,
	      "the same code at two addresses knows where it is");

	/* One address, two pages in turn. */
	PLACE(AREA, constant);
	PLACE(AREA + PAGE, constant);
	*here = 1;
	*(volatile u32 *)(AREA + PAGE + 1) = 2;
	wrong[0] = 0;
	for (u32 n = 0; n < 100; n++) {
		paging_set(ALIAS, LEVEL_PAGE, (AREA + n % 2 * PAGE) | PTE_ALL);
		wrong[0] += call(ALIAS, 0) != 1 + n % 2;
	}
	check_equal(wrong[0], 0, "another page comes to where code was run");
}

/* An instruction that lies on two pages, patched on either. */
static void check_crossing(void)
{
	unsigned wrong = 0;

	for (u64 before = 1; before < 6; before++) {
		u64 code = PLACE(AREA + PAGE - before, constant);
		volatile u8 *immediate = (u8 *)code + 1;

		for (u32 n = 0; n < 64; n++) {
			unsigned byte = n % 4;

			immediate[byte] = (u8)(n + 1);
			wrong += (u8)(call(code, 0) >> 8 * byte) != (u8)(n + 1);
		}
	}
	check_equal(wrong, 0, "instructions that cross into another page");
}

/* The same where both pages are one: the instruction begins at its end and goes on at its start. */
static void check_crossing_into_itself(void)
{
	volatile u8 *page = (u8 *)AREA;
	unsigned wrong = 0;

	paging_set(ALIAS, LEVEL_PAGE, AREA | PTE_ALL);
	paging_set(ALIAS + PAGE, LEVEL_PAGE, AREA | PTE_ALL);
	for (u64 before = 1; before < 6; before++) {
		memset((void *)AREA, 0xcc, PAGE);
		for (u64 i = 0; i < (u64)(constant_end - constant); i++)
			page[(PAGE - before + i) % PAGE] = constant[i];
		for (u32 n = 0; n < 64; n++) {
			unsigned byte = n % 4;

			page[(PAGE - before + 1 + byte) % PAGE] = (u8)(n + 1);
			serialize();
			wrong += (u8)(call(ALIAS + PAGE - before, 0) >> 8 * byte) != (u8)(n + 1);
		}
	}
	check_equal(wrong, 0, "instructions that cross into their own page");
}

/* Bytes that are no instruction become one by what is written behind the first. */
static void check_undefined(void)
{
	static const u8 undefined[] = {0x0f, 0x04, 0xc0, 0xcd, VECTOR_END}; /* int $VECTOR_END */
	volatile u8 *code = (u8 *)AREA;
	struct trap trap;

	memcpy((void *)AREA, undefined, sizeof(undefined));
	trap_run(AREA, 0, 0, &trap);
	check_equal(trap.frame.vector, 6, "undefined bytes");
	code[1] = 0x1f; /* nop %eax */
	trap_run(AREA, 0, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "undefined bytes, made an instruction");
}

/* Code comes and goes, as with a compiler at run time: other lengths, other instructions. */
static void check_replacing(void)
{
	static const struct {
		u8 code[12];
		u64 result;
	} pieces[] = {
		{{0xb8, 1, 0, 0, 0, 0xc3}, 1},			     /* mov $1, %eax */
		{{0x31, 0xc0, 0xc3}, 0},			     /* xor %eax, %eax */
		{{0x89, 0xf8, 0xc3}, 77},			     /* mov %edi, %eax */
		{{0x90, 0x90, 0x90, 0xb8, 2, 0, 0, 0, 0xc3}, 2},     /* three nops before it */
		{{0xeb, 0x02, 0x0f, 0x0b, 0x89, 0xf8, 0xc3}, 77},    /* a jump over ud2 */
		{{0x8d, 0x47, 1, 0xff, 0xc0, 0xff, 0xc8, 0xc3}, 78}, /* lea 1(%rdi), %eax */
	};
	unsigned wrong = 0;

	for (unsigned n = 0; n < 2000; n++) {
		unsigned which = n * 7 % ARRAY_SIZE(pieces);
		u64 at = AREA + n * 11 % 64;

		memset((void *)AREA, 0xcc, 128);
		memcpy((void *)at, pieces[which].code, sizeof(pieces[which].code));
		wrong += call(at, 77) != pieces[which].result;
	}
	check_equal(wrong, 0, "code that is replaced, 2000 times");
}

/* ------------------------------------------------------------------ chains of small blocks */

/*
 * Eight bytes each, one behind the other, each a block or two: they add something to eax, or skip
 * that, as a bit of edi says. One is replaced; then they are run from somewhere on.
 */
#define LINKS	   40
#define CHAIN_RUNS 20000

enum step { STEP_INCREMENT, STEP_DECREMENT, STEP_UNLESS, STEP_CALL, STEP_HOP, STEPS };

static void put_step(u64 at, unsigned bit, enum step step, u64 helper)
{
	/* bt $bit, %edi; jnc or jc over the next; inc or dec %eax */
	u8 code[8] = {0x0f,
		      0xba,
		      0xe7,
		      (u8)bit,
		      step == STEP_UNLESS ? 0x72 : 0x73,
		      2,
		      0xff,
		      step == STEP_DECREMENT ? 0xc8 : 0xc0};
	u32 distance = (u32)(helper - (at + 5));

	/* call helper; inc %eax; nop */
	if (step == STEP_CALL) {
		memcpy(code, "\xe8....\xff\xc0\x90", sizeof(code));
		memcpy(code + 1, &distance, sizeof(distance));
	}
	/* test $1, %dil; jnz to what is the last byte: nop */
	if (step == STEP_HOP)
		memcpy(code, "\x40\xf6\xc7\x01\x75\x01\x90\x90", sizeof(code));
	*(volatile u64 *)at = *(u64 *)code;
}

static u32 step_result(enum step step, bool bit)
{
	switch (step) {
	case STEP_INCREMENT:
		return bit;
	case STEP_DECREMENT:
		return bit ? (u32)-1 : 0;
	case STEP_UNLESS:
		return !bit;
	case STEP_CALL:
		return 101;
	default:
		return 0;
	}
}

CODE(adds_100, "add $100, %eax; ret");

static u32 run_chain(u64 from, u32 bits)
{
	u32 result = 0;

	asm volatile("call *%1" : "+a"(result) : "r"(from), "D"(bits) : "memory", "cc");
	return result;
}

static void check_chain(u64 area)
{
	static enum step steps[LINKS];
	u64 helper = area + 8ull * LINKS + 16, random = 1;
	unsigned wrong = 0;

	memset((void *)area, 0xc3, 8ull * LINKS + 8);
	PLACE(helper, adds_100);
	for (unsigned n = 0; n < LINKS; n++)
		put_step(area + 8ull * n, n % 32, steps[n], helper);
	for (unsigned n = 0; n < CHAIN_RUNS; n++) {
		unsigned which, from;
		u32 bits, sum = 0;

		random = random * 6364136223846793005 + 1442695040888963407;
		which = random >> 33 & 0xff, from = random >> 41 & 0xff, bits = (u32)(random >> 20);
		if (n % 3 == 0) {
			which %= LINKS;
			steps[which] = (random >> 50) % STEPS;
			put_step(area + 8ull * which, which % 32, steps[which], helper);
		}
		from = from % 4 ? 0 : from % LINKS;
		for (unsigned i = from; i < LINKS; i++)
			sum += step_result(steps[i], bits >> i % 32 & 1);
		wrong += run_chain(area + 8ull * from, bits) != sum;
	}
	check_equal(wrong, 0, "a chain of small blocks of which one is replaced");
}

/* As many bytes as that from the console's input, written by the device straight to `at`. */
static void receive(struct virtio *console, u8 *at, u32 count)
{
	struct ring *rx = &console->rings[CONSOLE_RX];
	u32 len;

	for (u32 got = 0; got < count; got += len) {
		ring_describe(rx, 0, at + got, count - got, VRING_DESC_F_WRITE, 0);
		ring_offer(rx, 0);
		virtio_notify(console, CONSOLE_RX);
		while (!ring_has_used(rx))
			pause();
		len = rx->used->ring[rx->used_seen++ % rx->size].len;
	}
	serialize();
}

/* What is behind the jump is fallen into, jumped to from here, and called from elsewhere. */
CODE(two_ways, "test %edi, %edi; jz 1f; nop\n 1: mov $1, %eax; ret");
#define WAY (two_ways_end - two_ways - 6)

/*
 * Code is changed, and called again, while an interrupt waits that may not be taken: nobody who
 * looks at both may come round to the same place again and again.
 */
static void check_waiting(void)
{
	u64 code = PLACE(AREA, two_ways), way = code + (u64)WAY;

	for (unsigned i = 0; i < 4; i++) {
		check_equal(call(code, i % 2), 1, "by the way");
		check_equal(call(way, 0), 1, "at once");
	}
	lapic_write(LAPIC_SPURIOUS, LAPIC_ENABLED | VECTOR_SPURIOUS);
	lapic_write(LAPIC_ICR, ICR_SELF | WAITING);
	for (u32 i = 2; i < 6; i++) {
		*(volatile u32 *)(way + 1) = i;
		check_equal(call(way, 0), i, "changed, while an interrupt waits");
		check_equal(call(code, 1), i, "and by the way");
	}
}

static void check_device(void)
{
	static struct virtio console;
	const u32 size = (u32)(constant_end - constant);
	u64 before = 0x5555;

	virtio_find(&console, SLOT_VIRTIO_CONSOLE);
	virtio_start(&console, FEATURE(VIRTIO_F_VERSION_1), 16);
	PLACE(AREA, constant);
	*(volatile u32 *)(AREA + 1) = (u32)before;
	for (unsigned round = 0; round < 2; round++) {
		check_equal(call(AREA, 0), before, "the code that was there before");
		print("selfmodify: round %u\n", round);
		receive(&console, (u8 *)AREA, size);
		before = call(AREA, 0);
		print("selfmodify: received code says %lx\n", before);
	}
}

void guest_main(const struct boot *boot)
{
	char value[4];

	trap_init();
	write_cr0(read_cr0() & ~(u64)(X86_CR0_TS | X86_CR0_EM));
	write_cr4(read_cr4() | X86_CR4_OSFXSR);
	check_ahead();
	check_loops();
	check_aliases();
	check_crossing();
	check_crossing_into_itself();
	check_undefined();
	check_replacing();
	check_chain(AREA);
	/* Its end is on another page. */
	check_chain(AREA + PAGE - 8ull * LINKS / 2);
	if (boot_option(boot, "input", value, sizeof(value)))
		check_device();
	check_waiting();
}
