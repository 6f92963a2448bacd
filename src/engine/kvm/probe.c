/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is this /dev/kvm worth having?
 *
 * Some hosts offer one that interprets kernel-mode code at a few million
 * instructions a second and lacks instructions that stock kernels use: it opens,
 * it creates virtual machines, and it never finishes booting. So before --engine=auto
 * trusts it, a few microseconds' worth of code runs in the very VM that is to
 * be used: a loop of two lengths, whose difference in time is the speed
 * without the cost of entering and leaving; then one each of three instructions
 * that such hosts were seen to lack.
 *
 * Tour 5.140: Is this KVM worth having?
 */
#include "engine/kvm/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

/* The guest-physical pages that the probe sees; it sees them at the same virtual addresses. */
enum page { PML4, PDPT, PD, TABLES, CODE, STACK, DATA, PAGES };

#define AT(page) ((page)*PAGE_SIZE)

/* Ports that the code writes to when it is through: the exits that we wait for. */
#define PORT_LOOPED   0x10
#define PORT_FEATURES 0x11

#define SHORT_LOOP	  2500 /* turns, of two instructions each */
#define LONG_LOOP	  10000
#define TRIES		  3
#define WANTED_PER_SECOND 20000000ull

#define PTE_PRESENT 1
#define PTE_WRITE   2
#define PTE_LARGE   0x80

#define CR0_PE	    (1u << 0)
#define CR0_NE	    (1u << 5)
#define CR0_PG	    (1u << 31)
#define CR4_PAE	    (1u << 5)
#define CR4_OSFXSR  (1u << 9)
#define CR4_OSXSAVE (1u << 18)
/* CPUID leaf 1, ECX. */
#define FEATURES_ECX_CX16  (1u << 13)
#define FEATURES_ECX_XSAVE (1u << 26)

#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)

#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10
#define SELECTOR_TASK 0x18

/*
 * Position-independent, 64-bit. rcx is the number of turns; rsi points to
 * sixteen bytes, rdi to an XSAVE area, both all zero and aligned; r8 and r9 say
 * whether the processor has the instructions that use them.
 *
 * Tour 5.141: A very small guest
 */
extern const u8 probe_loop[], probe_features[], probe_breakpoint[], probe_end[];
__asm__(".pushsection .rodata\n"
	"probe_loop:\n"
	"1:	dec %rcx\n"
	"	jnz 1b\n"
	"	out %al, $0x10\n"
	"probe_features:\n"
	"	test %r8, %r8\n"
	"	jz 1f\n"
	"	xor %eax, %eax\n"
	"	xor %edx, %edx\n"
	"	xor %ecx, %ecx\n"
	"	mov $1, %ebx\n"
	"	lock cmpxchg16b (%rsi)\n"
	"1:	test %r9, %r9\n"
	"	jz 1f\n"
	"	mov $1, %eax\n"
	"	xor %edx, %edx\n"
	"	xrstor (%rdi)\n"
	"1:	int3\n"
	"	out %al, $0x11\n"
	"probe_breakpoint:\n"
	"	iretq\n"
	"probe_end:\n"
	".popsection\n");

static void fill_pages(u8 *pages)
{
	u64 *pml4 = (u64 *)(pages + AT(PML4)), *pdpt = (u64 *)(pages + AT(PDPT));
	u64 *pd = (u64 *)(pages + AT(PD)), *gdt = (u64 *)(pages + AT(TABLES));
	u16 *gate = (u16 *)(pages + AT(TABLES) + PAGE_SIZE / 2 + 3 * 16);
	u64 handler = AT(CODE) + (probe_breakpoint - probe_loop);

	pml4[0] = AT(PDPT) | PTE_WRITE | PTE_PRESENT;
	pdpt[0] = AT(PD) | PTE_WRITE | PTE_PRESENT;
	pd[0] = PTE_LARGE | PTE_WRITE | PTE_PRESENT;
	/* Flat 64-bit code, data. The iretq wants to find them. */
	gdt[SELECTOR_CODE / 8] = 0x00af9b000000ffff;
	gdt[SELECTOR_DATA / 8] = 0x00cf93000000ffff;
	/* Vector 3, the breakpoint: a 64-bit interrupt gate. */
	gate[0] = handler;
	gate[1] = SELECTOR_CODE;
	gate[2] = 0x8e00;
	memcpy(pages + AT(CODE), probe_loop, probe_end - probe_loop);
}

static struct cpu_state probe_state(const struct kvm *kvm)
{
	const struct segment data = {.limit = 0xffffffff,
				     .selector = SELECTOR_DATA,
				     .type = 3,
				     .s = true,
				     .present = true,
				     .db = true,
				     .g = true};
	struct cpu_state state = {
		.rflags = 2,
		.cs = {.limit = 0xffffffff,
		       .selector = SELECTOR_CODE,
		       .type = 11,
		       .s = true,
		       .present = true,
		       .l = true,
		       .g = true},
		.ds = data,
		.es = data,
		.fs = data,
		.gs = data,
		.ss = data,
		.tr = {.limit = 0x67, .selector = SELECTOR_TASK, .type = 11, .present = true},
		.gdt = {.base = AT(TABLES), .limit = 0x1f},
		.idt = {.base = AT(TABLES) + PAGE_SIZE / 2, .limit = 4 * 16 - 1},
		.cr0 = CR0_PG | CR0_NE | CR0_PE,
		.cr3 = AT(PML4),
		.cr4 = CR4_PAE | CR4_OSFXSR,
		.efer = EFER_LMA | EFER_LME,
	};

	state.gpr[RSP] = AT(STACK) + PAGE_SIZE;
	state.gpr[RSI] = AT(DATA);
	state.gpr[RDI] = AT(DATA) + 64;
	state.gpr[8] = kvm_cpuid_has_features(kvm, FEATURES_ECX_CX16);
	state.gpr[9] = kvm_cpuid_has_features(kvm, FEATURES_ECX_XSAVE);
	if (state.gpr[9])
		state.cr4 |= CR4_OSXSAVE;
	return state;
}

/* Run from `offset` into the code until it writes to `port`. */
static int run_to(const struct kvm_vcpu *vcpu, struct cpu_state *state, u64 offset, u16 port,
		  struct problem *why)
{
	const struct kvm_run *run = vcpu->run;
	int err;

	state->rip = AT(CODE) + offset;
	err = kvm_vcpu_set_state(vcpu, state);
	if (err)
		return problem(why, -err, "/dev/kvm does not take a 64-bit CPU state: %s",
			       strerror(-err));
	while (ioctl(vcpu->fd, KVM_RUN, 0))
		if (errno != EINTR && errno != EAGAIN)
			return problem(why, errno, "/dev/kvm does not run: %s", strerror(errno));
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != port)
		return problem(why, EIO,
			       "/dev/kvm cannot run kernel-mode code (exit %u, internal error %u)",
			       run->exit_reason,
			       run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run->internal.suberror
									   : 0);
	return 0;
}

/* ns for that many turns, the best of a few. */
static int time_loop(const struct kvm_vcpu *vcpu, struct cpu_state *state, u64 turns, u64 *best,
		     struct problem *why)
{
	*best = UINT64_MAX;
	for (int i = 0; i < TRIES; i++) {
		struct timespec from, to;
		int err;

		state->gpr[RCX] = turns;
		clock_gettime(CLOCK_MONOTONIC, &from);
		err = run_to(vcpu, state, 0, PORT_LOOPED, why);
		clock_gettime(CLOCK_MONOTONIC, &to);
		if (err)
			return err;
		*best = MIN(*best, (u64)((to.tv_sec - from.tv_sec) * 1000000000ll + to.tv_nsec -
					 from.tv_nsec));
	}
	return 0;
}

/*
 * How long a loop takes, run twice as it were: in a long version and in a short one, so that
 * the way in and out cancels. What is not known after these few microseconds would have been
 * known after minutes of a boot that never ends.
 *
 * Tour 5.142: And how long it takes
 */
static bool run_probe(const struct kvm *kvm, struct problem *why)
{
	const struct kvm_vcpu *vcpu = &kvm->vcpus[0];
	const u64 instructions = 2 * (LONG_LOOP - SHORT_LOOP);
	struct cpu_state state = probe_state(kvm);
	u64 shorter, longer, per_second;

	if (time_loop(vcpu, &state, SHORT_LOOP, &shorter, why) ||
	    time_loop(vcpu, &state, LONG_LOOP, &longer, why) ||
	    run_to(vcpu, &state, probe_features - probe_loop, PORT_FEATURES, why))
		return false;
	/* A clock too coarse to see a difference saw something fast. */
	per_second =
		longer > shorter ? instructions * 1000000000ull / (longer - shorter) : UINT64_MAX;
	if (per_second < WANTED_PER_SECOND) {
		problem(why, EOPNOTSUPP,
			"/dev/kvm interprets kernel-mode code, at %" PRIu64
			" million instructions a second",
			per_second / 1000000);
		return false;
	}
	problem(why, 0, "/dev/kvm runs at the speed of the hardware");
	return true;
}

bool kvm_probe(struct engine *engine, struct problem *why)
{
	struct kvm *kvm = container_of(engine, struct kvm, engine);
	struct kvm_userspace_memory_region slot = {.slot = 0, .memory_size = AT(PAGES)};
	u8 *pages =
		mmap(NULL, AT(PAGES), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool good = false;

	if (pages == MAP_FAILED) {
		problem(why, ENOMEM, "out of memory");
		return false;
	}
	fill_pages(pages);
	slot.userspace_addr = (u64)pages;
	if (ioctl(kvm->vm, KVM_SET_USER_MEMORY_REGION, &slot))
		problem(why, errno, "/dev/kvm does not take memory: %s", strerror(errno));
	else if (!kvm_vcpu_create(kvm, 0, why))
		good = run_probe(kvm, why);
	/* A slot of no size is none: the number is free again. */
	slot.memory_size = 0;
	ioctl(kvm->vm, KVM_SET_USER_MEMORY_REGION, &slot);
	munmap(pages, AT(PAGES));
	return good;
}
