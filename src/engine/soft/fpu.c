/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's vector and x87 state, when it is not where it belongs.
 *
 * It belongs in the host's registers: translated code computes there, and so does the
 * silicon for us. This file takes it out when C needs those registers for itself
 * (vectors_save()), puts it back (vectors_restore()), and executes the few
 * instructions that cannot run as they are because they store the state as an
 * image: an image says where the last x87 instruction was, and that would be an
 * address of ours. XSAVE and its relatives are in xsave.c, what touches memory element by
 * element in elements.c.
 *
 * Nothing here computes with floating-point numbers. Called by the run loop, and by
 * everybody in this folder who is about to call libc.
 *
 * Tour 6.830
 */
#include "engine/soft/fpu.h"
#include "engine/soft/system.h"

/* SDM volume 1, "x87 FPU Control Word" after RESET. */
#define FCW_RESET 0x40u
#define FTW_RESET 0xffu /* abridged: all in use, with zeros */

_Static_assert(offsetof(struct image, mxcsr) == 24, "FXSAVE image");
_Static_assert(offsetof(struct image, st) == 32, "FXSAVE image");
_Static_assert(offsetof(struct image, xmm) == 160, "FXSAVE image");
_Static_assert(FXSAVE_SIZE == 512, "FXSAVE image");
_Static_assert(LEGACY_SIZE == 576, "XSAVE header"); /* where every CPU has the AVX component */
_Static_assert(sizeof(struct image) == 832, "XSAVE image");

static struct image *image_of(struct vcpu *vcpu)
{
	return (struct image *)(void *)vcpu->xsave;
}

/*
 * Of AVX-512's components XSAVE would write 1600 zeros each time, for guests that never touch them:
 * so it is asked for those that are in use (XGETBV with ECX = 1; AVX-512 is not offered on
 * hosts without). The bits of the others must not be left over from the last time.
 *
 * Tour 6.831
 */
void vectors_save(struct vcpu *vcpu)
{
	static const u32 mxcsr = MXCSR_INIT;
	u32 components = COMPONENTS_ALWAYS, in_use, high;

	if (vcpu->vectors_saved)
		return;
	if (fpu_avx512_components(vcpu)) {
		asm volatile("xgetbv" : "=a"(in_use), "=d"(high) : "c"(1));
		components |= in_use & COMPONENTS_AVX512;
		image_of(vcpu)->xstate_bv = 0;
	}
	asm volatile("xsave64 (%0)\n\t"
		     "fninit\n\t"
		     "ldmxcsr %1" ::"r"(vcpu->xsave),
		     "m"(mxcsr), "a"(components), "d"(0)
		     : "memory");
	vcpu->vectors_saved = true;
}

/*
 * This cannot fault: every image that comes here was made by XSAVE, or checked by
 * fpu_fxrstor() or fpu_xrstor() as the silicon would. What libc has left in registers that the
 * guest does not use becomes initial again here.
 */
void vectors_restore(struct vcpu *vcpu)
{
	if (!vcpu->vectors_saved)
		return;
	asm volatile("xrstor64 (%0)" ::"r"(vcpu->xsave),
		     "a"(COMPONENTS_ALWAYS | fpu_avx512_components(vcpu)), "d"(0)
		     : "memory");
	vcpu->vectors_saved = false;
}

/* Where the last x87 instruction and its operand were is nobody's business: in our translation. */
struct image *fpu_image(struct vcpu *vcpu)
{
	struct image *image = image_of(vcpu);

	vectors_save(vcpu);
	image->fop = 0;
	image->fip = 0;
	image->fdp = 0;
	return image;
}

u8 *fpu_component(struct vcpu *vcpu, enum component component)
{
	const struct xsave_layout *layout = &vcpu->soft->cpuid.xsave;
	struct image *image = fpu_image(vcpu);
	u8 *at = vcpu->xsave + layout->offset[component];

	if (component == AVX)
		return image->ymm_high[0];
	if (!(image->xstate_bv & 1u << component))
		fpu_clear(at, layout->length[component]);
	image->xstate_bv |= 1u << component;
	return at;
}

void fpu_changed(struct vcpu *vcpu, u64 components)
{
	image_of(vcpu)->xstate_bv |= components;
}

u64 fpu_saved_mask(struct vcpu *vcpu, unsigned reg)
{
	u64 value;

	if (!(image_of(vcpu)->xstate_bv & 1u << OPMASK))
		return 0;
	__builtin_memcpy(&value, fpu_component(vcpu, OPMASK) + 8 * reg, sizeof(value));
	return value;
}

u8 *fpu_vector_at(struct vcpu *vcpu, unsigned reg, unsigned at)
{
	struct image *image = fpu_image(vcpu);

	if (reg >= 16)
		return fpu_component(vcpu, ZMM_16) + 64 * (reg - 16) + at;
	if (at >= 32)
		return fpu_component(vcpu, ZMM_HIGH) + 32 * reg + at - 32;
	return at < 16 ? &image->xmm[reg][at] : &image->ymm_high[reg][at - 16];
}

void fpu_clear_vector(struct vcpu *vcpu, unsigned reg, unsigned at)
{
	struct image *image = fpu_image(vcpu);

	if (reg >= 16) {
		fpu_clear(fpu_vector_at(vcpu, reg, at), 64 - at);
		return;
	}
	if (at < 16)
		fpu_clear(&image->xmm[reg][at], 16 - at);
	if (at < 32)
		fpu_clear(&image->ymm_high[reg][MAX(at, 16u) - 16], 32 - MAX(at, 16u));
	/* Where nothing is in use all of it is 0. */
	if (at < 64 && image->xstate_bv & 1u << ZMM_HIGH)
		fpu_clear(fpu_vector_at(vcpu, reg, MAX(at, 32u)), 64 - MAX(at, 32u));
}

/* SDM volume 3A, "Processor State After Reset". */
void fpu_reset(struct vcpu *vcpu)
{
	struct image *image = image_of(vcpu);
	u32 mxcsr_mask;

	/* Which bits MXCSR has, only an image tells. */
	fpu_clear(image, sizeof *image);
	asm volatile("xsave64 (%0)" ::"r"(image), "a"(COMPONENT_SSE), "d"(0) : "memory");
	mxcsr_mask = image->mxcsr_mask;

	fpu_clear(image, sizeof *image);
	image->fcw = FCW_RESET;
	image->ftw = FTW_RESET;
	image->mxcsr = MXCSR_INIT;
	image->mxcsr_mask = mxcsr_mask;
	image->xstate_bv = COMPONENT_X87; /* RESET is not what XRSTOR calls initial */
	vcpu->vectors_saved = true;
}

/* ------------------------------------------------------------------ may it? */

bool fpu_x87_available(struct vcpu *vcpu)
{
	if (vcpu->cr0 & (X86_CR0_EM | X86_CR0_TS))
		return raise_fault(vcpu, VECTOR_NM);
	return true;
}

bool fpu_xsave_available(struct vcpu *vcpu)
{
	if (!(vcpu->cr4 & X86_CR4_OSXSAVE))
		return raise_fault(vcpu, VECTOR_UD);
	if (vcpu->cr0 & X86_CR0_TS)
		return raise_fault(vcpu, VECTOR_NM);
	return true;
}

bool fpu_avx_available(struct vcpu *vcpu)
{
	const u64 needed = COMPONENT_SSE | COMPONENT_AVX;

	if ((vcpu->xcr0 & needed) != needed)
		return raise_fault(vcpu, VECTOR_UD);
	return fpu_xsave_available(vcpu);
}

bool fpu_avx512_available(struct vcpu *vcpu)
{
	if ((vcpu->xcr0 & COMPONENTS_AVX512) != COMPONENTS_AVX512)
		return raise_fault(vcpu, VECTOR_UD);
	return fpu_avx_available(vcpu);
}

bool fpu_sse_available(struct vcpu *vcpu)
{
	if (vcpu->cr0 & X86_CR0_EM || !(vcpu->cr4 & X86_CR4_OSFXSR))
		return raise_fault(vcpu, VECTOR_UD);
	if (vcpu->cr0 & X86_CR0_TS)
		return raise_fault(vcpu, VECTOR_NM);
	return true;
}

/* The address of an image, or #GP where it is not aligned. */
bool fpu_image_address(struct vcpu *vcpu, const struct insn *insn, unsigned align, unsigned length,
		       enum access access, u64 *address)
{
	if (!insn_access(vcpu, insn, 0, length, access, address))
		return false;
	/* One that is not even canonical may be #SS: whoever accesses it finds out. */
	if (system_canonical(*address) && *address & (align - 1))
		return raise_error(vcpu, VECTOR_GP, 0);
	return true;
}

/* XMM8 to XMM15 are there in 64-bit mode only; other modes leave them alone in both directions. */
unsigned fpu_vector_bytes(const struct vcpu *vcpu)
{
	return (vcpu_64bit(vcpu) ? 16 : 8) * 16;
}

/* ------------------------------------------------------------------ FXSAVE, FXRSTOR */

/* With REX.W or without: they differ in how they store the pointers, which are 0. */
bool fpu_fxsave(struct vcpu *vcpu, const struct insn *insn)
{
	u64 address;

	if (!fpu_x87_available(vcpu) ||
	    !fpu_image_address(vcpu, insn, FXSAVE_ALIGN, FXSAVE_SIZE, ACCESS_WRITE, &address) ||
	    !mem_probe(vcpu, address, FXSAVE_SIZE, ACCESS_WRITE))
		return false;
	return mem_write(vcpu, address, fpu_image(vcpu),
			 offsetof(struct image, xmm) + fpu_vector_bytes(vcpu), ACCESS_WRITE);
}

bool fpu_mxcsr_valid(struct vcpu *vcpu, u32 mxcsr)
{
	const struct image *image = (const struct image *)(const void *)vcpu->xsave;

	return !(mxcsr & ~image->mxcsr_mask);
}

void fpu_load_x87(struct image *image, const struct image *from)
{
	image->fcw = from->fcw;
	image->fsw = from->fsw;
	image->ftw = from->ftw;
	fpu_copy(image->st, from->st, sizeof image->st);
	image->xstate_bv |= COMPONENT_X87;
}

void fpu_load_sse(struct vcpu *vcpu, struct image *image, const struct image *from)
{
	fpu_copy(image->xmm, from->xmm, fpu_vector_bytes(vcpu));
	image->xstate_bv |= COMPONENT_SSE;
}

bool fpu_fxrstor(struct vcpu *vcpu, const struct insn *insn)
{
	struct image from, *image;
	u64 address;

	if (!fpu_x87_available(vcpu) ||
	    !fpu_image_address(vcpu, insn, FXSAVE_ALIGN, FXSAVE_SIZE, ACCESS_READ, &address) ||
	    !mem_read(vcpu, address, &from, FXSAVE_SIZE, ACCESS_READ))
		return false;
	if (!fpu_mxcsr_valid(vcpu, from.mxcsr))
		return raise_error(vcpu, VECTOR_GP, 0);

	image = fpu_image(vcpu);
	fpu_load_x87(image, &from);
	fpu_load_sse(vcpu, image, &from);
	image->mxcsr = from.mxcsr;
	/* The silicon shall look at it before anyone reads it back: it knows what FSW.ES is now. */
	vectors_restore(vcpu);
	return true;
}

/* ------------------------------------------------------------------ FNSTENV, FNSAVE */

/*
 * SDM volume 1, "Saving the x87 FPU's Operating Environment": the 16-bit and the 32-bit format,
 * and in them what lies between the tag word and the registers: instruction and data
 * pointers. The upper half of the last selector's slot is reserved, and all ones.
 */
#define ENVIRONMENT_16	14
#define ENVIRONMENT_32	28
#define POINTERS_16	6
#define POINTERS_16_END 14
#define POINTERS_32	12
#define POINTERS_32_END 26
#define REGISTERS	(8 * 10)

static void execute_store(u8 *to, bool narrow, bool registers)
{
	if (narrow && registers)
		asm volatile("data16 fnsave (%0)" ::"r"(to) : "memory");
	else if (narrow)
		asm volatile("data16 fnstenv (%0)" ::"r"(to) : "memory");
	else if (registers)
		asm volatile("fnsave (%0)" ::"r"(to) : "memory");
	else
		asm volatile("fnstenv (%0)" ::"r"(to) : "memory");
	if (narrow)
		fpu_clear(to + POINTERS_16, POINTERS_16_END - POINTERS_16);
	else
		fpu_clear(to + POINTERS_32, POINTERS_32_END - POINTERS_32);
}

/*
 * Executed in earnest, into a buffer: both instructions also change the guest's registers, one
 * masks all exceptions and the other is FNINIT too. So the guest's memory is made sure of before.
 */
static bool store_environment(struct vcpu *vcpu, const struct insn *insn, bool registers)
{
	u8 buffer[ENVIRONMENT_32 + REGISTERS];
	const bool narrow = insn->opsize == 2;
	const unsigned length =
		(narrow ? ENVIRONMENT_16 : ENVIRONMENT_32) + (registers ? REGISTERS : 0);
	u64 address;

	if (!fpu_x87_available(vcpu) ||
	    !insn_access(vcpu, insn, 0, length, ACCESS_WRITE, &address) ||
	    !mem_probe(vcpu, address, length, ACCESS_WRITE))
		return false;

	vectors_restore(vcpu);
	execute_store(buffer, narrow, registers);
	return mem_write(vcpu, address, buffer, length, ACCESS_WRITE);
}

bool fpu_fnstenv(struct vcpu *vcpu, const struct insn *insn)
{
	return store_environment(vcpu, insn, false);
}

bool fpu_fnsave(struct vcpu *vcpu, const struct insn *insn)
{
	return store_environment(vcpu, insn, true);
}
