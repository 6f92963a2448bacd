/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where segments end, in 32-bit protected mode: limits of bytes and of pages, data
 * that expands down, stacks, code; what may not be written or read; and 16-bit code
 * with a base and a stack of its own. Loading segments is the business of rings.c,
 * real mode's are in v86.c.
 *
 * All data segments begin where `area` does. An access that is allowed ends with INT
 * 0x80, one that is not with the fault. It is users who try, for a supervisor without a
 * stack has nowhere to put a fault. qemu's emulator knows no limits: there only what is
 * allowed is tried.
 */
#include "lib32/trap.h"

#define DATA	  (SEG_SPARE | 3) /* these are filled anew for each check */
#define STACK	  ((SEG_SPARE + 8) | 3)
#define CODE16	  ((SEG_SPARE + 16) | 3)
#define SMALL_TOP 0x1234u

/* Descriptors' upper bits: Intel SDM 3A, "Segment Descriptors". */
#define BIG	  (1ull << 54)
#define PAGES	  (1ull << 55)
#define TYPE_DOWN 0x97u

static u8 area[0x12000] __attribute__((aligned(PAGE_SIZE)));

SNIPPET(read_byte, "mov $0x5b, %eax; mov %eax, %ds", "movb (%edi), %al");
SNIPPET(read_dword, "mov $0x5b, %eax; mov %eax, %ds", "movl (%edi), %eax");
SNIPPET(write_dword, "mov $0x5b, %eax; mov %eax, %ds", "movl %eax, (%edi)");
SNIPPET(read_gs, "mov $0x5b, %eax; mov %eax, %gs", "movl %gs:(%edi), %eax");
SNIPPET(write_code, "", "movl %eax, %cs:(%edi)");
SNIPPET(read_null, "xor %eax, %eax; mov %eax, %gs", "movb %gs:(%edi), %al");
SNIPPET(copy, "mov $0x5b, %eax; mov %eax, %es; mov $area, %esi; mov $4, %ecx; cld", "rep movsl");
SNIPPET(push, "mov $0x63, %eax; mov %eax, %ss; mov %edi, %esp", "push %eax");
SNIPPET(pop, "mov $0x63, %eax; mov %eax, %ss; mov %edi, %esp", "pop %eax");
SNIPPET(through_frame, "mov $0x63, %eax; mov %eax, %ss; mov %edi, %ebp", "movl (%ebp), %eax");

/* 16-bit code, in a segment that begins at code16. EDI comes along. */
#define PIECE(name, before, instruction)                                                           \
	extern const u8 name[], name##_at[], name##_next[];                                        \
	asm(".pushsection .text\n.code16\n" #name ":\n" before "\n" #name "_at:\n" instruction     \
	    "\n" #name "_next:\n"                                                                  \
	    "int $0x80\n.code32\n.popsection")

extern const u8 code16[], code16_end[];

asm(".pushsection .text\n.balign 16\ncode16:\n.popsection");
PIECE(near_call,
      "xor %bx, %bx; mov $0xffff8000, %ecx; call 1f; jmp 2f; 1: inc %bx; ret; 2:", "nop");
PIECE(call_pointer, "mov $1f - code16, %ax; call *%ax; jmp 2f; 1: mov $7, %bx; ret; 2:", "nop");
PIECE(count, "mov $0x50003, %ecx; xor %bx, %bx; 1: inc %bx; loop 1b", "nop");
PIECE(wide_count, "mov $0x10002, %ecx; mov $0xfffe, %bx; 1: inc %bx; addr32 loop 1b", "nop");
PIECE(address,
      "mov $0x5b, %ax; mov %ax, %ds; mov $0xfff0, %bx; mov $0x20, %si; movb (%bx,%si), %al", "nop");
PIECE(wide_address, "mov $0x5b, %ax; mov %ax, %ds; mov $0x10010, %ebx", "movb (%ebx), %al");
PIECE(jump_far_away, "", "data32 jmp . + 0x8000");
PIECE(jump_indirect, "mov $0x7fff, %ax", "jmp *%ax");
PIECE(small_stack,
      "mov $0x63, %ax; mov %ax, %ss; mov $0xabcd0100, %esp; push %ax; push %ax; pop %bx;"
      "enter $8, $0; leave; mov %esp, %ebx",
      "nop");
PIECE(pusha_wraps, "mov $0x63, %ax; mov %ax, %ss; mov $8, %sp", "pusha");
PIECE(decimal, "mov $0x0909, %ax; add $0x0809, %ax; daa; mov %ax, %bx", "nop");
PIECE(over_the_end, "jmp over_the_end_end", "nop");
asm(".pushsection .text\nover_the_end_end:\nnop\nnop\ncode16_end:\n.popsection");

/* As in a descriptor; `bits` are BIG and PAGES. */
static void set(unsigned selector, u32 base, u32 limit, unsigned type, u64 bits)
{
	trap_set_segment(selector & ~3u, base, limit, type);
	*trap_descriptor(selector & ~3u) |= bits | DESCRIPTOR_DPL(3);
}

static void allowed(const u8 *code, const u8 *next, u32 offset, const char *name)
{
	struct trap trap;

	trap_run_user(code, offset, 0, &trap);
	trap_check(&trap, VECTOR_END, 0, next + 2, name);
}

static void refused(const u8 *code, const u8 *at, u32 offset, u8 vector, const char *name)
{
	struct trap trap;

	if (cpu_is_tcg())
		return;
	trap_run_user(code, offset, 0, &trap);
	trap_check(&trap, vector, 0, at, name);
}

#define ALLOWED(code, offset, name)	    allowed(code, code##_next, offset, name)
#define REFUSED(code, offset, vector, name) refused(code, code##_at, offset, vector, name)

static void check_bytes(void)
{
	set(DATA, (u32)area, SMALL_TOP, TYPE_DATA, BIG);
	ALLOWED(read_byte, SMALL_TOP, "the last byte");
	REFUSED(read_byte, SMALL_TOP + 1, GP, "the byte behind");
	ALLOWED(read_dword, SMALL_TOP - 3, "the last four bytes");
	REFUSED(read_dword, SMALL_TOP - 2, GP, "four bytes, one behind the end");
	REFUSED(read_dword, ~0u, GP, "four bytes that wrap around");
	ALLOWED(read_gs, SMALL_TOP - 3, "through GS");
	REFUSED(read_gs, SMALL_TOP - 2, GP, "through GS, behind the end");

	memset(area, 0, sizeof(area));
	REFUSED(write_dword, SMALL_TOP - 1, GP, "a write that goes over the end");
	check(!area[SMALL_TOP - 1] && !area[SMALL_TOP + 1], "nothing was written");
}

static void check_kinds(void)
{
	set(DATA, (u32)area, 1, TYPE_DATA, BIG | PAGES);
	ALLOWED(read_byte, 2 * PAGE_SIZE - 1, "a limit of pages: the last byte");
	REFUSED(read_byte, 2 * PAGE_SIZE, GP, "the byte behind");

	set(DATA, (u32)area, SMALL_TOP, TYPE_DOWN, BIG);
	REFUSED(read_byte, SMALL_TOP, GP, "expanding down, the limit is outside");
	ALLOWED(read_byte, SMALL_TOP + 1, "the byte above is inside");
	ALLOWED(read_byte, 0x10000, "and so is what is beyond 64 KiB");
	set(DATA, (u32)area, SMALL_TOP, TYPE_DOWN, 0);
	ALLOWED(read_byte, 0xffff, "expanding down in 16 bits: the last byte");
	REFUSED(read_dword, 0xfffd, GP, "four bytes over the end");

	set(DATA, (u32)area, 0xffff, TYPE_DATA & ~2u, BIG);
	ALLOWED(read_dword, 0, "data for reading");
	REFUSED(write_dword, 0, GP, "is not for writing");
	REFUSED(write_code, (u32)area, GP, "code is not for writing");
	REFUSED(read_null, (u32)area, GP, "null selectors are for nothing");
}

static void check_strings(void)
{
	struct trap trap;

	memset(area, 1, 16);
	memset(area + SMALL_TOP - 15, 0, 32);
	set(DATA, (u32)area, SMALL_TOP, TYPE_DATA, BIG);
	trap_run_user(copy, SMALL_TOP - 9, 0, &trap);
	trap_check(&trap, GP, 0, copy_at, "a string that goes over the end");
	check_equal(trap.frame.ecx, 2, "words that are left");
	check_equal(trap.frame.edi, SMALL_TOP - 1, "EDI says where");
	check(area[SMALL_TOP - 2] == 1 && !area[SMALL_TOP - 1] && !area[SMALL_TOP + 1],
	      "so many are there");
}

static void check_stacks(void)
{
	set(STACK, (u32)area, SMALL_TOP, TYPE_DATA, BIG);
	ALLOWED(push, SMALL_TOP + 1, "a push onto the last four bytes");
	REFUSED(push, SMALL_TOP + 2, SS, "a push over the end");
	REFUSED(push, 3, SS, "a push over the other end");
	REFUSED(pop, SMALL_TOP - 2, SS, "a pop over the end");
	REFUSED(through_frame, SMALL_TOP - 2, SS, "through EBP it is the stack's fault, too");
	set(STACK, (u32)area, SMALL_TOP, TYPE_DOWN, BIG);
	ALLOWED(push, SMALL_TOP + 5, "a stack that expands down has room");
	REFUSED(push, SMALL_TOP + 4, SS, "and then has none");
}

/* There by a far jump; what comes back has an EIP that counts from code16. */
static void run16(const u8 *code, u32 limit, struct trap *trap)
{
	static struct {
		u32 offset;
		u16 selector;
	} __attribute__((packed)) target;
	static u8 jump[] = {0xff, 0x2f}; /* ljmp *(%edi) */

	set(CODE16, (u32)code16, limit, TYPE_CODE, 0);
	target.offset = code - code16;
	target.selector = CODE16;
	trap_run_user(jump, (u32)&target, 0, trap);
}

static void check16(const u8 *code, const u8 *next, u32 bx, const char *name)
{
	struct trap trap;

	run16(code, 0xffff, &trap);
	if (trap_check(&trap, VECTOR_END, 0, next + 2 - (u32)code16, name))
		check_equal(trap.frame.ebx & 0xffff, bx, "%s: BX", name);
}

static void refused16(const u8 *code, const u8 *at, u8 vector, const char *name)
{
	struct trap trap;

	if (cpu_is_tcg())
		return;
	run16(code, code16_end - code16 - 1, &trap);
	trap_check(&trap, vector, 0, at - (u32)code16, name);
}

static void check_small_code(void)
{
	struct trap trap;

	set(DATA, (u32)area, 0xffff, TYPE_DATA, 0);
	set(STACK, (u32)area, 0xffff, TYPE_DATA, 0);
	check16(near_call, near_call_next, 1, "16-bit code: a near call");
	check16(call_pointer, call_pointer_next, 7, "a call through a register");
	check16(count, count_next, 3, "LOOP counts CX");
	check16(wide_count, wide_count_next, 0, "or ECX, with a prefix");
	check16(address, address_next, 0xfff0, "an address wraps around at 64 KiB");
	refused16(wide_address, wide_address_at, GP, "one of 32 bits does not");
	refused16(jump_far_away, jump_far_away_at, GP, "a jump out of the segment");
	refused16(jump_indirect, jump_indirect_at, GP, "a jump there through a register");
	refused16(over_the_end, code16_end, GP, "running out of the segment");
	check16(decimal, decimal_next, 0x1118, "decimal addition");

	run16(small_stack, 0xffff, &trap);
	trap_check(&trap, VECTOR_END, 0, small_stack_next + 2 - (u32)code16, "a stack of 16 bits");
	check_equal(trap.frame.ebx, 0xabcd00fe, "the upper half of ESP stays");
	run16(pusha_wraps, 0xffff, &trap);
	trap_check(&trap, VECTOR_END, 0, pusha_wraps_next + 2 - (u32)code16, "PUSHA wraps around");
	check_equal(*(u16 *)(area + 6), STACK, "AX at the bottom, where it began");
	check_equal(*(u16 *)(area + 0xfffe), 8, "and the old SP at the top");
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	check_bytes();
	check_kinds();
	if (!cpu_is_tcg())
		check_strings();
	check_stacks();
	check_small_code();
}
