/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of a vCPU: how it is born, and the few questions that everybody asks
 * about it afterwards. Flags, segments, the mode that code is translated for,
 * operands of instructions that C executes.
 *
 * Nothing here runs guest code (run.c), or knows what an address means (mmu.c). The
 * vector registers are fpu.c's.
 *
 * vcpu_new() and vcpu_free() are soft.c's, while no vCPU runs; vcpu_kick() is
 * anybody's; the rest belongs to the vCPU's thread.
 *
 * Tour 6.50: A virtual CPU
 */
#include "engine/soft/segment.h"
#include "engine/soft/translate.h"

#include <asm/debugreg.h>
#include <asm/mtrr.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HOLDS(number, member)                                                                      \
	_Static_assert((number) == offsetof(struct context, member), "context.h, twice: " #member)

HOLDS(CTX_SELF, self);
HOLDS(CTX_GPR, gpr);
HOLDS(CTX_RIP, rip);
HOLDS(CTX_PAGE, page);
HOLDS(CTX_ARITH, arith);
HOLDS(CTX_STEP, step);
HOLDS(CTX_BASE, base);
HOLDS(CTX_STACKUSER, stack_user);
HOLDS(CTX_JUMPSTUB, jump_stub);
HOLDS(CTX_JUMPMASK, jump_mask);
HOLDS(CTX_POLL, poll);
HOLDS(CTX_INTFLAG, intflag);
HOLDS(CTX_EVENT, event);
HOLDS(CTX_ADDRESS, address);
HOLDS(CTX_ADDEND, addend);
HOLDS(CTX_TARGET, target);
HOLDS(CTX_CONTINUE, resume);
HOLDS(CTX_LOW, low);
HOLDS(CTX_SPARE, spare);
HOLDS(CTX_AUX, aux);
HOLDS(CTX_CHECKBASE, check_base);
HOLDS(CTX_CHECKMASK, check_mask);
HOLDS(CTX_ALIGN, align);
HOLDS(CTX_USER, user);
HOLDS(CTX_STACK, stack);
HOLDS(CTX_RETURNMASK, return_mask);
HOLDS(CTX_CALLMASK, call_mask);
HOLDS(CTX_ARITHMASK, arith_mask);
HOLDS(CTX_SLOT, slot);
_Static_assert(CTX_END == offsetof(struct context, slot) + CTX_SLOTS * sizeof(u64),
	       "context.h, twice: the end");
_Static_assert(offsetof(struct vcpu, ctx) == 0, "a context is a vCPU");

/* A page: more than XSAVE has for the components that guests are offered. */
#define XSAVE_SIZE  PAGE_SIZE
#define XSAVE_ALIGN 64

/* Intel SDM 3A, "Processor State After Reset"; the APIC's and the FPU's are in their own files. */
#define RESET_CR0      (X86_CR0_CD | X86_CR0_NW | X86_CR0_ET)
#define RESET_RIP      0xfff0u
#define RESET_CS       0xf000u
#define RESET_CS_BASE  0xffff0000u
#define RESET_LIMIT    0xffffu
#define RESET_DR6      0xffff0ff0u
#define RESET_DR7      0x400u
#define RESET_XCR0     1u		     /* x87, which cannot be switched off */
#define RESET_PAT      0x0007040600070406ull /* Intel SDM 3A, "Page Attribute Table (PAT)" */
#define TYPE_DATA      3u		     /* read, write, accessed */
#define TYPE_CODE_READ 11u		     /* execute, read, accessed */
#define LEAF_SIGNATURE 1u

/*
 * What a firmware would have done, if there were one: all memory is write-back, and fast strings
 * are on. Intel SDM 3A, "IA32_MTRR_DEF_TYPE MSR", and 4, "IA32_MISC_ENABLE".
 */
#define MTRR_ENABLED	    (1u << 11)
#define MTRR_FIXED_ENABLED  (1u << 10)
#define MTRR_ALL_WRITE_BACK (0x0101010101010101ull * MTRR_TYPE_WRBACK) /* eight ranges */
#define MISC_ENABLE_STRINGS (1u << 0)

/* XCR0: what AVX instructions need, and AVX-512 ones. */
#define XCR0_SSE_AVX 6u
#define XCR0_AVX512  0xe6u

/*
 * What is in sysflags: all that there is, less what lives elsewhere. DF lives elsewhere, too, where
 * it is in the form that string instructions want.
 */
#define SYSTEM_FLAGS                                                                               \
	(X86_EFLAGS_TF | X86_EFLAGS_DF | X86_EFLAGS_IOPL | X86_EFLAGS_NT | X86_EFLAGS_RF |         \
	 X86_EFLAGS_VM | X86_EFLAGS_AC | X86_EFLAGS_VIF | X86_EFLAGS_VIP | X86_EFLAGS_ID)

/* ------------------------------------------------------------------ birth and death */

static void set_up_context(struct context *ctx)
{
	ctx->self = ctx;
	ctx->event = (const void *)soft_event_stub;
	ctx->jump_stub = (const void *)soft_jump_stub;
	for (unsigned i = 0; i < ARRAY_SIZE(ctx->align); i++)
		ctx->align[i] = ~(PAGE_SIZE - 1) | ((2u << i) - 1);
	ctx->arith_mask = FLAGS_ARITH;
	atomic_store(&ctx->jump_mask, JUMP_ENTRIES - 1);
	ctx->call_mask = (RETURN_ENTRIES - 1) << RETURN_SHIFT;
	atomic_store(&ctx->return_mask, ctx->call_mask);
	for (unsigned i = 0; i < ARRAY_SIZE(ctx->low); i++)
		ctx->low[i] = (16u << i) - 1;
}

static void reset_segments(struct vcpu *vcpu)
{
	struct segment segment = {
		.limit = RESET_LIMIT, .type = TYPE_DATA, .s = true, .present = true};

	for (unsigned i = ES; i <= GS; i++)
		vcpu_set_segment(vcpu, i, &segment);
	segment.type = TYPE_CODE_READ;
	segment.selector = RESET_CS;
	segment.base = RESET_CS_BASE;
	vcpu_set_segment(vcpu, CS, &segment);
	vcpu->ldt = (struct segment){.limit = RESET_LIMIT, .type = SYSTEM_LDT, .present = true};
	vcpu->tr = (struct segment){.limit = RESET_LIMIT, .type = SYSTEM_TSS_BUSY, .present = true};
	vcpu->gdt = vcpu->idt = (struct descriptor_table){.limit = RESET_LIMIT};
}

/* What RESET and INIT agree on. All that is 0 then is so already. */
static void reset_core(struct vcpu *vcpu)
{
	struct cpuid_result features;

	reset_segments(vcpu);
	vcpu->ctx.rip = RESET_RIP;
	vcpu->dr[DR_STATUS] = RESET_DR6;
	vcpu->dr[DR_CONTROL] = RESET_DR7;
	cpuid_read(vcpu, LEAF_SIGNATURE, 0, &features);
	vcpu->ctx.gpr[RDX] = features.eax;
	vcpu_set_rflags(vcpu, 0);
}

static void reset(struct vcpu *vcpu)
{
	vcpu->cr0 = RESET_CR0;
	vcpu->xcr0 = RESET_XCR0;
	vcpu->pat = RESET_PAT;
	vcpu->mtrr_def_type = MTRR_ENABLED | MTRR_FIXED_ENABLED | MTRR_TYPE_WRBACK;
	for (unsigned i = 0; i < ARRAY_SIZE(vcpu->mtrr_fixed); i++)
		vcpu->mtrr_fixed[i] = MTRR_ALL_WRITE_BACK;
	vcpu->misc_enable = MISC_ENABLE_STRINGS;
	syscall_prepare(vcpu);
	reset_core(vcpu);
}

/*
 * Intel SDM 3A, table "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT":
 * what is not named here stays. That is caching (CR0.CD and NW, MTRRs, PAT), all that XSAVE knows,
 * the time, and the MSRs. Of those EFER would make no sense without CR4.PAE, and kvmclock ends
 * because on KVM it does.
 */
void vcpu_init(struct vcpu *vcpu)
{
	struct context *ctx = &vcpu->ctx;

	for (unsigned i = 0; i < ARRAY_SIZE(ctx->gpr); i++)
		ctx->gpr[i] = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(vcpu->dr); i++)
		vcpu->dr[i] = 0;
	vcpu->cr0 = (vcpu->cr0 & (X86_CR0_CD | X86_CR0_NW)) | X86_CR0_ET;
	vcpu->cr2 = vcpu->cr3 = vcpu->cr4 = vcpu->efer = 0;
	syscall_prepare(vcpu);
	vcpu->cpl = 0;
	vcpu->kvm_system_time = 0;
	vcpu->shadow = SHADOW_NONE;
	vcpu->stepping = vcpu->halted = vcpu->interrupt_waiting = false;
	vcpu->nmi_pending = vcpu->nmi_blocked = false;
	vcpu->watch.hits = 0;
	reset_core(vcpu);
	debug_update(vcpu);
	tlb_flush(vcpu, true);
	vcpu->waiting = true;
}

void vcpu_set_state(struct vcpu *vcpu, const struct cpu_state *state)
{
	const struct segment *segments[] = {&state->es, &state->cs, &state->ss,
					    &state->ds, &state->fs, &state->gs};

	for (unsigned i = 0; i < ARRAY_SIZE(vcpu->ctx.gpr); i++)
		vcpu->ctx.gpr[i] = state->gpr[i];
	for (unsigned i = ES; i <= GS; i++)
		vcpu_set_segment(vcpu, i, segments[i]);
	vcpu->tr = state->tr;
	vcpu->ldt = state->ldt;
	vcpu->gdt = state->gdt;
	vcpu->idt = state->idt;
	vcpu->cr0 = state->cr0;
	vcpu->cr2 = state->cr2;
	vcpu->cr3 = state->cr3;
	vcpu->cr4 = state->cr4;
	vcpu->efer = state->efer;
	vcpu->kernel_gs_base = state->kernel_gs_base;
	syscall_prepare(vcpu);
	vcpu->cpl = state->ss.dpl;
	vcpu->ctx.rip = state->rip;
	vcpu_set_rflags(vcpu, state->rflags);
}

void vcpu_get_state(const struct vcpu *vcpu, struct cpu_state *state)
{
	struct segment *segments[] = {&state->es, &state->cs, &state->ss,
				      &state->ds, &state->fs, &state->gs};

	for (unsigned i = 0; i < ARRAY_SIZE(vcpu->ctx.gpr); i++)
		state->gpr[i] = vcpu->ctx.gpr[i];
	for (unsigned i = ES; i <= GS; i++)
		*segments[i] = vcpu->seg[i];
	/* MSRs and instructions of their own change these two. */
	state->fs.base = vcpu->ctx.base[FS];
	state->gs.base = vcpu->ctx.base[GS];
	state->ss.dpl = vcpu->cpl;
	state->tr = vcpu->tr;
	state->ldt = vcpu->ldt;
	state->gdt = vcpu->gdt;
	state->idt = vcpu->idt;
	state->cr0 = vcpu->cr0;
	state->cr2 = vcpu->cr2;
	state->cr3 = vcpu->cr3;
	state->cr4 = vcpu->cr4;
	state->efer = vcpu->efer;
	state->kernel_gs_base = vcpu->kernel_gs_base;
	state->rip = vcpu->ctx.rip;
	state->rflags = vcpu_rflags(vcpu);
}

struct vcpu *vcpu_new(struct soft *soft, unsigned index, const struct cpu_state *initial,
		      struct problem *why)
{
	struct vcpu *vcpu = pages_new(sizeof(*vcpu));

	if (!vcpu) {
		problem(why, ENOMEM, "out of memory");
		return NULL;
	}
	vcpu->soft = soft;
	vcpu->index = index;
	vcpu->bare.cell = soft->cells && cell_works(soft->cells[index]) ? soft->cells[index] : NULL;
	pthread_mutex_init(&vcpu->running, NULL);
	pthread_mutex_init(&vcpu->written.lock, NULL);
	set_up_context(&vcpu->ctx);
	tlb_set_up(vcpu);
	vcpu->xsave = aligned_alloc(XSAVE_ALIGN, XSAVE_SIZE);
	vcpu->lapic = lapic_new(vcpu);
	vcpu->cache = cache_new(vcpu, soft->options.soft_cache, why);
	if (!vcpu->xsave || !vcpu->lapic || !vcpu->cache) {
		if (vcpu->cache)
			problem(why, ENOMEM, "out of memory");
		vcpu_free(vcpu);
		return NULL;
	}
	memset(vcpu->xsave, 0, XSAVE_SIZE);
	reset(vcpu);
	if (initial)
		vcpu_set_state(vcpu, initial);
	else
		vcpu->waiting = true;
	/* They are in memory: the first way to the guest takes them along. */
	fpu_reset(vcpu);
	tlb_flush(vcpu, true);
	return vcpu;
}

void vcpu_free(struct vcpu *vcpu)
{
	if (!vcpu)
		return;
	/* Where it has marked pages as code, it has none any more: soft->ram[].pages. */
	if (vcpu->cache)
		cache_flush(vcpu);
	cache_free(vcpu->cache);
	lapic_free(vcpu->lapic);
	free(vcpu->xsave);
	pthread_mutex_destroy(&vcpu->running);
	pthread_mutex_destroy(&vcpu->written.lock);
	pages_free(vcpu, sizeof(*vcpu));
}

/* ------------------------------------------------------------------ flags, segments, mode */

u64 vcpu_rflags(const struct vcpu *vcpu)
{
	const struct context *ctx = &vcpu->ctx;

	return (ctx->arith & FLAGS_ARITH) | vcpu->sysflags |
	       (u64) !!ctx->intflag << X86_EFLAGS_IF_BIT;
}

void vcpu_set_rflags(struct vcpu *vcpu, u64 rflags)
{
	struct context *ctx = &vcpu->ctx;
	s64 direction = rflags & X86_EFLAGS_DF ? -1 : 1;

	ctx->arith = rflags & FLAGS_ARITH;
	ctx->intflag = !!(rflags & X86_EFLAGS_IF);
	for (unsigned i = 0; i < ARRAY_SIZE(ctx->step); i++)
		ctx->step[i] = direction * (1 << i);
	vcpu->sysflags = (rflags & SYSTEM_FLAGS) | X86_EFLAGS_FIXED;
	vcpu_update_mode(vcpu);
}

void vcpu_set_segment(struct vcpu *vcpu, unsigned which, const struct segment *segment)
{
	vcpu->seg[which] = *segment;
	vcpu->ctx.base[which] = segment->base;
}

/* Intel SDM 3A, "Determination of Access Rights": whom does a data access belong to? */
static u32 current_view(const struct vcpu *vcpu)
{
	if (vcpu->cpl == 3)
		return VIEW_USER;
	if (vcpu->cr4 & X86_CR4_SMAP && vcpu->sysflags & X86_EFLAGS_AC)
		return VIEW_KERNEL_AC;
	return VIEW_KERNEL;
}

static u32 forbidden(const struct vcpu *vcpu)
{
	u32 mode = 0;

	if (vcpu->cpl == 1 || vcpu->cpl == 2)
		mode |= MODE_MIDDLE;
	if (vcpu->cr4 & X86_CR4_SMAP)
		mode |= MODE_SMAP;
	if (vcpu->cr4 & X86_CR4_TSD)
		mode |= MODE_TSD;
	if (vcpu->cr4 & X86_CR4_FSGSBASE)
		mode |= MODE_FSGSBASE;
	if (vcpu->cr4 & X86_CR4_PKE)
		mode |= MODE_PKE;
	if (vcpu->cr0 & (X86_CR0_EM | X86_CR0_TS))
		mode |= MODE_NO_FPU;
	if (vcpu->cr0 & X86_CR0_EM)
		mode |= MODE_NO_MMX;
	if (vcpu->cr0 & X86_CR0_MP && vcpu->cr0 & X86_CR0_TS)
		mode |= MODE_NO_WAIT;
	if (!system_protected(vcpu))
		mode |= MODE_NO_VEX;
	if (vcpu->cpl == 3 && vcpu->cr0 & X86_CR0_AM && vcpu->sysflags & X86_EFLAGS_AC)
		mode |= MODE_ALIGN;
	if (vcpu->cr0 & X86_CR0_EM || !(vcpu->cr4 & X86_CR4_OSFXSR))
		mode |= MODE_NO_SSE;
	if (!(vcpu->cr4 & X86_CR4_OSXSAVE) || (vcpu->xcr0 & XCR0_SSE_AVX) != XCR0_SSE_AVX)
		mode |= MODE_NO_AVX;
	if (!(vcpu->cr4 & X86_CR4_OSXSAVE) || (vcpu->xcr0 & XCR0_AVX512) != XCR0_AVX512)
		mode |= MODE_NO_AVX512;
	return mode;
}

/*
 * What code outside 64-bit mode can tell. CS.D decides in real mode too: who leaves protected mode
 * with a 32-bit CS keeps running 32-bit code, which is why Intel SDM 3A, "Switching Back to
 * Real-Address Mode", wants a 16-bit one first.
 */
static u32 segmented(const struct vcpu *vcpu)
{
	const u64 *base = vcpu->ctx.base;
	u32 mode = vcpu->seg[CS].db ? MODE_CODE_32 : MODE_CODE_16;

	if (!vcpu->seg[SS].db)
		mode |= MODE_STACK_16;
	if (!base[ES] && !base[CS] && !base[SS] && !base[DS] && segment_is_flat(vcpu, ES) &&
	    segment_is_flat(vcpu, CS) && segment_is_flat(vcpu, SS) && segment_is_flat(vcpu, DS))
		mode |= MODE_FLAT;
	if (segment_is_flat(vcpu, FS))
		mode |= MODE_FS_FLAT;
	if (segment_is_flat(vcpu, GS))
		mode |= MODE_GS_FLAT;
	return mode;
}

/* In 64-bit mode these have no base, but what they were loaded with is there again outside. */
static void update_bases(struct vcpu *vcpu)
{
	for (unsigned i = ES; i <= DS; i++)
		vcpu->ctx.base[i] = vcpu_64bit(vcpu) ? 0 : vcpu->seg[i].base;
}

void vcpu_update_mode(struct vcpu *vcpu)
{
	u32 view = current_view(vcpu);
	u32 mode = view | forbidden(vcpu);
	struct lookup *lookup = vcpu_lookup(vcpu, view);

	update_bases(vcpu);
	mode |= vcpu_64bit(vcpu) ? MODE_CODE_64 : segmented(vcpu);
	vcpu->mode = mode;
	if (lookup->jump_mode != mode) {
		jump_cache_flush(lookup);
		lookup->jump_mode = mode;
	}
}

/* ------------------------------------------------------------------ from outside */

/*
 * Atomics only: signal handlers call this. Translated code looks at `poll` at backward jumps and
 * at nothing elsewhere; for indirect ones the jump cache shrinks to a single entry, and that one
 * misses; so does the return cache.
 *
 * Tour 6.51: How to get a vCPU's attention
 */
void vcpu_kick(struct vcpu *vcpu, u32 why)
{
	struct context *ctx = &vcpu->ctx;

	atomic_fetch_or(&ctx->poll, why);
	atomic_store(&ctx->jump_mask, 0);
	atomic_store(&ctx->return_mask, 0);
	for (unsigned view = 0; view < KERNEL_VIEWS; view++)
		jump_cache_close(&ctx->kernel[view].jump);
	/* Which of these is looked at may be changing just now. */
	for (unsigned i = 0; i < SPACES; i++)
		jump_cache_close(&vcpu->space[i].lookup.jump);
	if (atomic_load(&vcpu->bare.inside))
		cell_kick(vcpu->bare.cell);
	if (atomic_exchange(&vcpu->asleep, 0))
		syscall(SYS_futex, &vcpu->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* ------------------------------------------------------------------ exceptions */

bool raise_fault(struct vcpu *vcpu, enum vector vector)
{
	vcpu->exception.pending = true;
	vcpu->exception.vector = vector;
	vcpu->exception.has_error = false;
	vcpu->exception.error = 0;
	vcpu->exception.non_canonical = false;
	return false;
}

bool raise_error(struct vcpu *vcpu, enum vector vector, u32 error)
{
	raise_fault(vcpu, vector);
	vcpu->exception.has_error = true;
	vcpu->exception.error = error;
	return false;
}

bool raise_page_fault(struct vcpu *vcpu, u64 address, u32 error)
{
	vcpu->exception.cr2 = address;
	return raise_error(vcpu, VECTOR_PF, error);
}

void raised_through_stack(struct vcpu *vcpu)
{
	if (vcpu->exception.non_canonical)
		vcpu->exception.vector = VECTOR_SS;
}

/* ------------------------------------------------------------------ operands */

u64 gpr_read(const struct vcpu *vcpu, unsigned reg, unsigned size)
{
	return vcpu->ctx.gpr[reg] & width_mask(size);
}

void gpr_write(struct vcpu *vcpu, unsigned reg, unsigned size, u64 value)
{
	u64 mask = width_mask(size);
	u64 kept = size < 4 ? vcpu->ctx.gpr[reg] & ~mask : 0;

	vcpu->ctx.gpr[reg] = kept | (value & mask);
}

bool rm_read(struct vcpu *vcpu, const struct insn *insn, unsigned size, u64 *value)
{
	u64 address;

	*value = 0;
	if (insn->has_memory)
		return insn_access(vcpu, insn, 0, size, ACCESS_READ, &address) &&
		       mem_read(vcpu, address, value, size, ACCESS_READ);
	*value = gpr_read(vcpu, insn->rm, size);
	return true;
}

bool rm_write(struct vcpu *vcpu, const struct insn *insn, unsigned size, u64 value)
{
	u64 address;

	if (insn->has_memory)
		return insn_access(vcpu, insn, 0, size, ACCESS_WRITE, &address) &&
		       mem_write(vcpu, address, &value, size, ACCESS_WRITE);
	gpr_write(vcpu, insn->rm, size, value);
	return true;
}
