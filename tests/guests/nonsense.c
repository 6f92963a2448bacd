/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that does what no kernel in its right mind does: it loads nonsense into
 * the registers that everything hangs on, and jumps to where no code can be.
 * Either it sees the fault and goes on, or there is nobody left to see it: then
 * the machine ends with a triple fault, and nothing worse.
 *
 *   what=...	which nonsense; see the table at the end
 *   size=N	how many MiB what=chain fills with code (32)
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define NON_CANONICAL 0x0000800000000000ull
#define UNMAPPED      (1ull << 40)
#define NOWHERE	      GiB(3) - MiB(2) /* an address where this machine has neither RAM nor device */
#define DEVICE	      LAYOUT_IOAPIC
#define TABLES	      MiB(32) /* free memory */

enum { UD = 6, GP = 13, PF = 14 };

struct pointer {
	u16 limit;
	u64 base;
} __attribute__((packed));

static void load_idt(u64 base, u16 limit)
{
	const struct pointer pointer = {limit, base};

	asm volatile("lidt %0" : : "m"(pointer));
}

static void load_gdt(u64 base, u16 limit)
{
	const struct pointer pointer = {limit, base};

	asm volatile("lgdt %0" : : "m"(pointer));
}

static void undefined(void)
{
	asm volatile("ud2");
}

static void cr3_zeroes(void)
{
	memset((void *)TABLES, 0, PAGE);
	paging_set_root(TABLES);
}

static void cr3_ones(void)
{
	memset((void *)TABLES, 0xff, PAGE);
	paging_set_root(TABLES);
}

/* A table of itself, at all levels. */
static void cr3_itself(void)
{
	u64 *table = (u64 *)TABLES;

	for (unsigned i = 0; i < 512; i++)
		table[i] = TABLES | PTE_PRESENT | PTE_WRITE;
	paging_set_root(TABLES);
	undefined();
}

static void cr3_nowhere(void)
{
	paging_set_root(NOWHERE);
}

static void cr3_device(void)
{
	paging_set_root(DEVICE);
}

static void cr3_beyond(void)
{
	paging_set_root(1ull << 38);
}

static void idt_empty(void)
{
	load_idt(0, 0);
	undefined();
}

static void idt_zeroes(void)
{
	memset((void *)TABLES, 0, PAGE);
	load_idt(TABLES, 0xfff);
	undefined();
}

static void idt_ones(void)
{
	memset((void *)TABLES, 0xff, PAGE);
	load_idt(TABLES, 0xfff);
	undefined();
}

static void idt_unmapped(void)
{
	load_idt(UNMAPPED, 0xfff);
	undefined();
}

static void idt_nowhere(void)
{
	load_idt(NOWHERE, 0xfff);
	undefined();
}

static void gdt_empty(void)
{
	load_gdt(0, 0);
	undefined();
}

static void gdt_zeroes(void)
{
	memset((void *)TABLES, 0, PAGE);
	load_gdt(TABLES, 0xfff);
	undefined();
}

static void gdt_unmapped(void)
{
	load_gdt(UNMAPPED, 0xfff);
	undefined();
}

SNIPPET(end, "", "ud2");

static void no_task_stack(void)
{
	struct trap trap;

	*trap_kernel_slot() = UNMAPPED;
	trap_run_user(user_address(end), 0, 0, &trap);
}

static void no_task(void)
{
	struct trap trap;
	u64 *task = trap_descriptor(SEGMENT_TASK);

	/* Its base becomes 1 TiB. */
	task[0] = 0x67 | 0x89ull << 40;
	task[1] = UNMAPPED >> 32;
	trap_load_task(SEGMENT_TASK);
	trap_run_user(user_address(end), 0, 0, &trap);
}

/* Whether the hardware finds code there or not: it is the end, one way or another. */
static void jump(u64 address)
{
	struct trap trap;

	trap_run(address, 0, 0, &trap);
	print("nonsense: it was vector %lu, which was not to be expected\n", trap.frame.vector);
	idt_empty();
}

static void jump_device(void)
{
	jump(DEVICE);
}

static void jump_nowhere(void)
{
	jump(NOWHERE);
}

SNIPPET(load_idt_at, "", "lidt (%rdi)");
SNIPPET(load_gdt_at, "", "lgdt (%rdi)");
SNIPPET(load_cr3, "", "mov %rdi, %cr3");
SNIPPET(load_cr4, "", "mov %rdi, %cr4");
SNIPPET(push_device, "mov %rsp, %rcx; mov %rdi, %rsp; push %rdi; pop %rax", "mov %rcx, %rsp");
SNIPPET(call_device, "mov %rsp, %rcx; mov %rdi, %rsp; call 1f; 1:", "mov %rcx, %rsp");
SNIPPET(string_device, "mov %rdi, %rsi; lea 64(%rdi), %rdi; mov $64, %ecx", "rep movsb");
SNIPPET(locked_device, "", "lock addl $1, (%rdi)");

/* What is refused, or goes well, with nothing changed. */
static void survive(void)
{
	static const struct pointer astray = {0xfff, NON_CANONICAL};
	static const u64 jumps[] = {UNMAPPED, UNMAPPED + 0xfff, ~0xfffull};
	struct trap trap;

	/* It takes them, and that is the end. */
	if (!cpu_deviates("tables where none can be")) {
		trap_run((u64)load_idt_at, (u64)&astray, 0, &trap);
		check_equal(trap.frame.vector, GP, "an interrupt table that cannot be");
		trap_run((u64)load_gdt_at, (u64)&astray, 0, &trap);
		check_equal(trap.frame.vector, GP, "a descriptor table that cannot be");
		trap_run((u64)load_cr3, 1ull << 62, 0, &trap);
		check_equal(trap.frame.vector, GP, "a CR3 with bits that are nothing");
	}
	trap_run((u64)load_idt_at, UNMAPPED, 0, &trap);
	check_equal(trap.frame.vector, PF, "an interrupt table told by memory that is not there");
	trap_run((u64)load_cr4, 0, 0, &trap);
	check_equal(trap.frame.vector, GP, "a CR4 of 0");
	trap_run((u64)load_cr4, ~0ull, 0, &trap);
	check_equal(trap.frame.vector, GP, "a CR4 of all ones");
	for (size_t i = 0; i < ARRAY_SIZE(jumps); i++) {
		trap_run(jumps[i], 0, 0, &trap);
		check(trap.frame.vector == PF && trap.frame.rip == jumps[i] && trap.cr2 == jumps[i],
		      "a jump to %lx (vector %lu, cr2 %lx)", jumps[i], trap.frame.vector, trap.cr2);
	}
}

/* Stacks, strings, locks and images in memory that is nobody's: all ones, and writes are lost. */
static void devices(void)
{
	struct trap trap;

	trap_run((u64)push_device, NOWHERE + 0x800, 0, &trap);
	check(trap.frame.vector == VECTOR_END && trap.frame.rax == ~0ull, "push and pop (%lx)",
	      trap.frame.rax);
	trap_run((u64)call_device, NOWHERE + 0x800, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "call");
	trap_run((u64)string_device, NOWHERE, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "rep movs");
	trap_run((u64)locked_device, NOWHERE, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "lock add");
	check_equal(read32(NOWHERE), ~0u, "there is still nothing");
}

/*
 * More code than any cache of translations holds, each piece an instruction long: two times from
 * one end to the other, a jump every 16 bytes.
 */
static void chain(u64 size)
{
	static const u8 jump_ahead[] = {0xeb, 0x0e}, last[] = {0xcd, VECTOR_END};
	struct trap trap;

	for (u64 at = TABLES; at < TABLES + size; at += 16)
		*(u16 *)at = *(const u16 *)jump_ahead;
	memcpy((void *)(TABLES + size - 16), last, sizeof(last));
	for (unsigned n = 0; n < 2; n++) {
		trap_run(TABLES, 0, 0, &trap);
		check(trap.frame.vector == VECTOR_END &&
			      trap.frame.rip == TABLES + size - 16 + sizeof(last),
		      "from end to end (%lx)", trap.frame.rip);
	}
	/* And one that is not what it was the last time. */
	memcpy((void *)(TABLES + size / 2), last, sizeof(last));
	trap_run(TABLES, 0, 0, &trap);
	check_equal(trap.frame.rip, TABLES + size / 2 + sizeof(last), "from one end to the middle");
}

static const struct {
	const char *name;
	void (*end)(void); /* does not return, if all is well */
} ends[] = {
	{"cr3-zeroes", cr3_zeroes},	  {"cr3-ones", cr3_ones},
	{"cr3-itself", cr3_itself},	  {"cr3-nowhere", cr3_nowhere},
	{"cr3-device", cr3_device},	  {"cr3-beyond", cr3_beyond},
	{"idt-empty", idt_empty},	  {"idt-zeroes", idt_zeroes},
	{"idt-ones", idt_ones},		  {"idt-unmapped", idt_unmapped},
	{"idt-nowhere", idt_nowhere},	  {"gdt-empty", gdt_empty},
	{"gdt-zeroes", gdt_zeroes},	  {"gdt-unmapped", gdt_unmapped},
	{"no-task-stack", no_task_stack}, {"no-task", no_task},
	{"jump-device", jump_device},	  {"jump-nowhere", jump_nowhere},
};

static u64 number(const char *text)
{
	u64 value = 0;

	while (*text)
		value = value * 10 + (u64)(*text++ - '0');
	return value;
}

void guest_main(const struct boot *boot)
{
	char what[32] = "", size[8] = "32";

	trap_init();
	boot_option(boot, "what", what, sizeof(what));
	boot_option(boot, "size", size, sizeof(size));
	print("nonsense: %s\n", what);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		if (strcmp(ends[i].name, what))
			continue;
		ends[i].end();
		give_up("that was the end");
	}
	if (!strcmp(what, "chain"))
		chain(MiB(number(size)));
	else if (!strcmp(what, "devices"))
		devices();
	else
		survive();
}
