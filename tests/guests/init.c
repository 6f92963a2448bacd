/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * INIT and SIPI, taken by a second CPU in all that it may be busy with: what it
 * finds when it starts, what it has lost, what it has kept (Intel SDM 3A, table
 * "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT"). And the
 * messages that must not impress it.
 *
 *   first=1	at the end the first CPU gets an INIT, for which there is no firmware
 */
#include "lib/cpu.h"
#include "lib/cpus.h"
#include "lib/paging.h"

/* Two free pages of low memory at which the CPU may start. */
#define PAGE_A 0x90000
#define PAGE_B 0x91000
/* In each: where a stack ends, and what the CPU found. */
#define STACK "0x7f0"
#define FOUND 0x800

#define AP		 1
#define STARTUP(page)	 (ICR_STARTUP | (page) >> 12)
#define ICR_INIT_END	 0x8500 /* INIT, level triggered, de-assert */
#define ICR_NMI		 0x4400
#define VECTOR_NMI	 2
#define VECTOR_FIXED	 0x55
#define CR0_CACHE_OFF	 (X86_CR0_CD | X86_CR0_NW)
#define DR6_AFTER_INIT	 0xffff0ff0u
#define DR7_AFTER_INIT	 0x400u
#define FLAGS_AFTER_INIT 2u
#define PATTERN		 0x1122334455667788ull

/* What the code below leaves at FOUND. */
struct found {
	u32 eax, ecx, edx, ebx, esp, ebp, esi, edi;
	u32 flags, cr0, cr2, cr3, cr4, dr0, dr6, dr7, efer;
	u16 cs, ss, ds, es, fs, gs;
	struct {
		u16 limit;
		u32 base;
	} __attribute__((packed)) gdt, idt;
};

extern const u8 look_around[], look_around_end[];
asm(".pushsection .text\n"
    ".macro NOTE reg, offset\n mov %\\reg, %cs:0x800 + \\offset\n .endm\n"
    ".macro NOTE_BY_EAX reg, offset\n mov %\\reg, %eax\n NOTE eax, \\offset\n .endm\n"
    ".code16\n"
    "look_around:\n"
    "NOTE eax, 0; NOTE ecx, 4; NOTE edx, 8; NOTE ebx, 12\n"
    "NOTE esp, 16; NOTE ebp, 20; NOTE esi, 24; NOTE edi, 28\n"
    "NOTE ss, 70; NOTE ds, 72; NOTE es, 74; NOTE fs, 76; NOTE gs, 78\n"
    "mov %cs, %ax; NOTE ax, 68; mov %ax, %ds; mov %ax, %ss; mov $" STACK ", %sp\n"
    "pushfl; popl %eax; NOTE eax, 32\n"
    "NOTE_BY_EAX cr0, 36; NOTE_BY_EAX cr2, 40; NOTE_BY_EAX cr3, 44; NOTE_BY_EAX cr4, 48\n"
    "NOTE_BY_EAX dr0, 52; NOTE_BY_EAX dr6, 56; NOTE_BY_EAX dr7, 60\n"
    "sgdtl 0x800 + 80; sidtl 0x800 + 86\n"
    "mov $0xc0000080, %ecx; rdmsr; NOTE eax, 64\n"
    "ljmp $0x8000, $0\n" /* TRAMPOLINE, and so to ap_main() */
    "look_around_end:\n"
    ".code64\n.popsection");
_Static_assert(offsetof(struct found, efer) == 64 && offsetof(struct found, cs) == 68 &&
		       offsetof(struct found, gdt) == 80 && sizeof(struct found) == 92,
	       "as the code has it");

/* What the other CPU shall do once it has started; none of it ever ends. */
enum play {
	COUNT,
	HALT,		/* with interrupts off */
	SLEEP,		/* with interrupts on */
	BE_SPECIAL,	/* change all that can be changed, and count */
	REPORT,		/* see what is left of that */
	STAY_IN_NMI,	/* count in its handler */
	TAKE_NMIS,	/* count, and count NMIs */
	SEE_INTERRUPTS, /* is one waiting? */
};

static u8 stack[1][STACK_SIZE] __attribute__((aligned(16)));

static struct {
	volatile enum play play;
	volatile unsigned arrived, nmis;
	volatile u64 count;
	volatile bool waits;
	volatile u64 tsc;
	volatile u64 lstar, kernel_gs, fs, xmm;
	volatile u16 x87_control;
} ap;

static bool on_event(struct frame *frame)
{
	if (frame->vector != VECTOR_NMI)
		return false;
	ap.nmis++;
	while (ap.play == STAY_IN_NMI)
		ap.count++;
	return true;
}

static void be_special(void)
{
	const u64 pattern = PATTERN;
	const u16 control = 0x27f; /* not what FNINIT loads */

	write_cr0(read_cr0() & ~(u64)(CR0_CACHE_OFF | X86_CR0_EM | X86_CR0_TS));
	write_cr4(read_cr4() | X86_CR4_OSFXSR | X86_CR4_PGE);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE | EFER_SCE);
	wrmsr(MSR_LSTAR, PATTERN << 17 >> 17);
	wrmsr(MSR_KERNEL_GS_BASE, PATTERN << 18 >> 18);
	wrmsr(MSR_FS_BASE, PATTERN << 19 >> 19);
	write_cr2(PATTERN);
	asm volatile("mov %0, %%dr0" : : "r"(0x1234ull));
	/* It would stop at an address at which there is nothing. */
	write_dr7(0x702);
	asm volatile("movq %0, %%xmm5; fldcw %1" : : "r"(pattern), "m"(control));
	ap.tsc = rdtsc();
	asm volatile("std" : : : "cc");
	for (;;)
		asm volatile("incq %0" : "+m"(ap.count));
}

static void report(void)
{
	u64 xmm;
	u16 control;

	ap.tsc = rdtsc() - ap.tsc;
	ap.fs = rdmsr(MSR_FS_BASE);
	ap.lstar = rdmsr(MSR_LSTAR);
	ap.kernel_gs = rdmsr(MSR_KERNEL_GS_BASE);
	write_cr0(read_cr0() & ~(u64)(X86_CR0_EM | X86_CR0_TS));
	write_cr4(read_cr4() | X86_CR4_OSFXSR);
	asm volatile("movq %%xmm5, %0; fnstcw %1" : "=r"(xmm), "=m"(control));
	ap.xmm = xmm;
	ap.x87_control = control;
}

void ap_main(void)
{
	ap.arrived++;
	switch (ap.play) {
	case HALT:
		for (;;)
			asm volatile("cli; hlt");
	case SLEEP:
		interrupt_join();
		for (;;)
			asm volatile("sti; hlt");
	case BE_SPECIAL:
		be_special();
		return;
	case REPORT:
		report();
		break;
	case STAY_IN_NMI:
	case TAKE_NMIS:
		interrupt_join();
		break;
	case SEE_INTERRUPTS:
		interrupt_join();
		interrupts_off();
		ap.waits = interrupt_waits(VECTOR_FIXED) || interrupt_count(VECTOR_FIXED);
		break;
	case COUNT:
		break;
	}
	/* Who has something to report has done so when this moves on. */
	for (;;)
		ap.count++;
}

static bool counts(void)
{
	u64 before = ap.count;

	return wait_for(ap.count != before);
}

static bool stops(void)
{
	return wait_for(({
		u64 before = ap.count;

		linger();
		ap.count == before;
	}));
}

/* From INIT on, without leaving it time for anything between the two. */
static bool start(enum play play, u32 page)
{
	unsigned before = ap.arrived;

	cpus_prepare(stack);
	ap.play = play;
	cpu_send(AP, STARTUP(page));
	return wait_for(ap.arrived == before + 1);
}

static bool restart(enum play play, u32 page)
{
	cpu_send_init(AP);
	return start(play, page);
}

static const struct found *prepare(u32 page)
{
	memset((void *)(u64)page, 0, PAGE);
	memcpy((void *)(u64)page, look_around, (size_t)(look_around_end - look_around));
	return (const struct found *)(u64)(page + FOUND);
}

static void check_found(const char *when, const struct found *found, u32 page, u64 cr0)
{
	u32 or = found->eax | found->ecx | found->ebx | found->esp | found->ebp | found->esi |
		 found->edi;

	check_equal(or, 0, "%s: general registers are 0", when);
	check_equal(found->edx, cpuid(1, 0).eax, "%s: but EDX says which CPU it is", when);
	check_equal(found->flags, FLAGS_AFTER_INIT, "%s: flags", when);
	check_equal(found->cr0, cr0, "%s: CR0", when);
	check(!found->cr2 && !found->cr3 && !found->cr4, "%s: CR2, CR3 and CR4 are 0", when);
	check_equal(found->efer, 0, "%s: EFER", when);
	check_equal(found->cs, page >> 4, "%s: CS", when);
	check(!found->ss && !found->ds && !found->es && !found->fs && !found->gs,
	      "%s: other segments", when);
	check(!found->gdt.base && found->gdt.limit == 0xffff && !found->idt.base &&
		      found->idt.limit == 0xffff,
	      "%s: descriptor tables", when);
	check(!found->dr0 && found->dr6 == DR6_AFTER_INIT && found->dr7 == DR7_AFTER_INIT,
	      "%s: debug registers", when);
}

static void check_messages(void)
{
	const struct found *b = prepare(PAGE_B);

	/* It runs; what does not concern it? */
	cpu_send(AP, STARTUP(PAGE_B));
	cpu_send(AP, ICR_INIT_END);
	linger();
	check(counts() && ap.arrived == 1, "a SIPI to a CPU that runs, and the end of an INIT");

	cpu_send_init(AP);
	check(stops(), "INIT stops it");
	cpu_send(AP, VECTOR_FIXED);
	cpu_send(AP, ICR_INIT_END);
	cpu_send_init(AP);
	linger();
	check(stops() && ap.arrived == 1, "and nothing wakes it but a SIPI");
	check(start(SEE_INTERRUPTS, PAGE_B) && counts(), "it starts where that says");
	check_equal(b->cs, PAGE_B >> 4, "which is another page now");
	check(!ap.waits, "no interrupt is left from before");
}

static void check_kept(void)
{
	const struct found *found = prepare(PAGE_A);

	check(restart(BE_SPECIAL, PAGE_A) && counts(), "a CPU that is special");
	prepare(PAGE_A);
	check(restart(REPORT, PAGE_A) && counts(), "it starts again");
	check_found("after INIT", found, PAGE_A, X86_CR0_ET);
	check_equal(ap.lstar, PATTERN << 17 >> 17, "kept: LSTAR");
	check_equal(ap.kernel_gs, PATTERN << 18 >> 18, "kept: KERNEL_GS_BASE");
	check_equal(ap.xmm, PATTERN, "kept: XMM5");
	check_equal(ap.x87_control, 0x27f, "kept: the x87 control word");
	check(ap.tsc < PATIENCE, "kept: the time");
	check_equal(ap.fs, 0, "not kept: the base of FS");
}

static void check_states(void)
{
	static const struct {
		const char *name;
		enum play play;
		bool counting;
	} states[] = {
		{"halted", HALT, false},
		{"asleep", SLEEP, false},
		{"running", COUNT, true},
	};
	unsigned nmis;

	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		bool there = restart(states[i].play, PAGE_A);

		linger();
		check(there && (!states[i].counting || counts()) && restart(COUNT, PAGE_A) &&
			      counts(),
		      "INIT and SIPI while it is %s", states[i].name);
	}

	check(restart(STAY_IN_NMI, PAGE_A) && counts(), "a CPU that will be in an NMI for long");
	cpu_send(AP, ICR_NMI);
	check(wait_for(ap.nmis == 1) && counts(), "and is");
	cpu_send(AP, ICR_NMI); /* waits for an IRET that will not come */
	linger();
	check(restart(TAKE_NMIS, PAGE_A) && counts(), "INIT and SIPI while it is in an NMI");
	nmis = ap.nmis;
	check_equal(nmis, 1, "the one that waited is gone");
	cpu_send(AP, ICR_NMI);
	check(wait_for(ap.nmis == 2) && counts(), "but NMIs come again");
}

/* The messages follow each other as fast as they can be sent, and one comes twice. */
static void check_repeated(void)
{
	unsigned wrong = 0, before = ap.arrived;

	for (unsigned n = 0; n < 50; n++) {
		cpu_send_init(AP);
		wrong += !start(COUNT, PAGE_A);
		cpu_send(AP, STARTUP(PAGE_A));
	}
	linger();
	check_equal(wrong, 0, "started 50 times");
	check_equal(ap.arrived - before, 50, "and each time once");
}

void guest_main(const struct boot *boot)
{
	const struct found *found = prepare(PAGE_A);
	char first[4];

	interrupt_init();
	interrupt_hook(on_event);
	check(restart(COUNT, PAGE_A) && counts(), "a CPU starts");
	check_found("after power-up", found, PAGE_A, X86_CR0_ET | CR0_CACHE_OFF);
	check_messages();
	check_kept();
	check_states();
	check_repeated();
	if (!boot_option(boot, "first", first, sizeof(first)))
		return;
	print("init: now the first\n");
	cpu_send_init(0);
	linger();
	check(false, "the first CPU goes on after INIT");
}
