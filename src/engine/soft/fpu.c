/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's vector and x87 state, when it is not where it belongs.
 *
 * It belongs in the host's registers: translated code computes there, and so does the
 * silicon for us. This file takes it out when C needs those registers for itself
 * (vectors_save()), puts it back (vectors_restore()), and executes the few
 * instructions that cannot run as they are: those that store the state as an
 * image, because an image says where the last x87 instruction was, and that would be an
 * address of ours; and those that touch memory element by element, because
 * each element wants its own look at the guest's page tables.
 *
 * Nothing here computes with floating-point numbers. Called by the run loop, and by
 * everybody in this folder who is about to call libc.
 */
#include "engine/soft/internal.h"
#include "engine/soft/system.h"

#include <Zydis/Mnemonic.h>
#include <stddef.h>

/* Intel SDM volume 1, "XSAVE-Supported Features and State-Component Bitmaps". */
#define COMPONENT_X87 1u
#define COMPONENT_SSE 2u
#define COMPONENT_AVX 4u
#define COMPONENTS    (COMPONENT_X87 | COMPONENT_SSE | COMPONENT_AVX)

/* SDM volume 1, "x87 FPU Control Word" after FNINIT and after RESET; "MXCSR Register State". */
#define FCW_INIT      0x37fu
#define FCW_RESET     0x40u
#define FTW_RESET     0xffu /* abridged: all in use, with zeros */
#define FSW_ES	      0x80u /* an exception waits for the next instruction that looks */
#define FSW_TOP_SHIFT 11
#define FSW_TOP	      (7u << FSW_TOP_SHIFT)
#define MXCSR_INIT    0x1f80u

/* SDM volume 1, "XSAVE Area", standard format: FXSAVE's image, then the header, then AVX. */
struct image {
	u16 fcw, fsw;
	u8 ftw, reserved;
	u16 fop;
	u64 fip, fdp;
	u32 mxcsr, mxcsr_mask;
	u8 st[8][16]; /* from the top of the stack on */
	u8 xmm[16][16];
	u8 unused[96];
	u64 xstate_bv, xcomp_bv, header[6];
	u8 ymm_high[16][16];
};

#define FXSAVE_SIZE  offsetof(struct image, xstate_bv)
#define LEGACY_SIZE  offsetof(struct image, ymm_high) /* with the header: the least of XSAVE's */
#define FXSAVE_ALIGN 16
#define XSAVE_ALIGN  64

_Static_assert(offsetof(struct image, mxcsr) == 24, "FXSAVE image");
_Static_assert(offsetof(struct image, st) == 32, "FXSAVE image");
_Static_assert(offsetof(struct image, xmm) == 160, "FXSAVE image");
_Static_assert(FXSAVE_SIZE == 512, "FXSAVE image");
_Static_assert(LEGACY_SIZE == 576, "XSAVE header"); /* where every CPU has the AVX component */
_Static_assert(sizeof(struct image) == 832, "XSAVE image");

void vectors_save(struct vcpu *vcpu)
{
	static const u32 mxcsr = MXCSR_INIT;

	if (vcpu->vectors_saved)
		return;
	/* Components that the host's XCR0 lacks are left out by the instruction itself. */
	asm volatile("xsave64 (%0)\n\t"
		     "fninit\n\t"
		     "ldmxcsr %1" ::"r"(vcpu->xsave),
		     "m"(mxcsr), "a"(COMPONENTS), "d"(0)
		     : "memory");
	vcpu->vectors_saved = true;
}

/*
 * This cannot fault: every image that comes here was made by XSAVE, or checked by
 * fpu_fxrstor() or fpu_xrstor() as the silicon would.
 */
void vectors_restore(struct vcpu *vcpu)
{
	if (!vcpu->vectors_saved)
		return;
	asm volatile("xrstor64 (%0)" ::"r"(vcpu->xsave), "a"(COMPONENTS), "d"(0) : "memory");
	vcpu->vectors_saved = false;
}

/* By hand, lest the compiler calls memcpy(): that uses the registers that we are here to save. */
static void copy(void *to, const void *from, u64 length)
{
	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length)::"memory");
}

static void clear(void *at, u64 length)
{
	asm volatile("rep stosb" : "+D"(at), "+c"(length) : "a"(0) : "memory");
}

/*
 * The saved state, to be read and changed. XSAVE writes what is in its initial state
 * too, and so do we: all of the image is always there, whatever XSTATE_BV says of it. Where the
 * last x87 instruction and its operand were is nobody's business: it was in our
 * translation.
 */
static struct image *saved_image(struct vcpu *vcpu)
{
	struct image *image = (struct image *)(void *)vcpu->xsave;

	vectors_save(vcpu);
	image->fop = 0;
	image->fip = 0;
	image->fdp = 0;
	return image;
}

/* SDM volume 3A, "Processor State After Reset". */
void fpu_reset(struct vcpu *vcpu)
{
	struct image *image = (struct image *)(void *)vcpu->xsave;
	u32 mxcsr_mask;

	/* Which bits MXCSR has, only an image tells. */
	clear(image, sizeof *image);
	asm volatile("xsave64 (%0)" ::"r"(image), "a"(COMPONENT_SSE), "d"(0) : "memory");
	mxcsr_mask = image->mxcsr_mask;

	clear(image, sizeof *image);
	image->fcw = FCW_RESET;
	image->ftw = FTW_RESET;
	image->mxcsr = MXCSR_INIT;
	image->mxcsr_mask = mxcsr_mask;
	image->xstate_bv = COMPONENT_X87; /* RESET is not what XRSTOR calls initial */
	vcpu->vectors_saved = true;
}

/* ------------------------------------------------------------------ may it? */

static bool x87_available(struct vcpu *vcpu)
{
	if (vcpu->cr0 & (X86_CR0_EM | X86_CR0_TS))
		return raise_fault(vcpu, VECTOR_NM);
	return true;
}

static bool xsave_available(struct vcpu *vcpu)
{
	if (!(vcpu->cr4 & X86_CR4_OSXSAVE))
		return raise_fault(vcpu, VECTOR_UD);
	if (vcpu->cr0 & X86_CR0_TS)
		return raise_fault(vcpu, VECTOR_NM);
	return true;
}

static bool avx_available(struct vcpu *vcpu)
{
	const u64 needed = COMPONENT_SSE | COMPONENT_AVX;

	if ((vcpu->xcr0 & needed) != needed)
		return raise_fault(vcpu, VECTOR_UD);
	return xsave_available(vcpu);
}

static bool sse_available(struct vcpu *vcpu)
{
	if (vcpu->cr0 & X86_CR0_EM || !(vcpu->cr4 & X86_CR4_OSFXSR))
		return raise_fault(vcpu, VECTOR_UD);
	if (vcpu->cr0 & X86_CR0_TS)
		return raise_fault(vcpu, VECTOR_NM);
	return true;
}

/* The address of an image, or #GP where it is not aligned. */
static bool image_address(struct vcpu *vcpu, const struct insn *insn, unsigned align, u64 *address)
{
	*address = insn_address(vcpu, insn);
	/* One that is not even canonical may be #SS: whoever accesses it finds out. */
	if (system_canonical(*address) && *address & (align - 1))
		return raise_error(vcpu, VECTOR_GP, 0);
	return true;
}

/* XMM8 to XMM15 are there in 64-bit mode only; other modes leave them alone in both directions. */
static unsigned vector_bytes(const struct vcpu *vcpu)
{
	return (vcpu_64bit(vcpu) ? 16 : 8) * 16;
}

/* ------------------------------------------------------------------ FXSAVE, FXRSTOR */

/* With REX.W or without: they differ in how they store the pointers, which are 0. */
bool fpu_fxsave(struct vcpu *vcpu, const struct insn *insn)
{
	u64 address;

	if (!x87_available(vcpu) || !image_address(vcpu, insn, FXSAVE_ALIGN, &address) ||
	    !mem_probe(vcpu, address, FXSAVE_SIZE, ACCESS_WRITE))
		return false;
	return mem_write(vcpu, address, saved_image(vcpu),
			 offsetof(struct image, xmm) + vector_bytes(vcpu), ACCESS_WRITE);
}

static bool mxcsr_valid(struct vcpu *vcpu, u32 mxcsr)
{
	const struct image *image = (const struct image *)(const void *)vcpu->xsave;

	return !(mxcsr & ~image->mxcsr_mask);
}

static void load_x87(struct image *image, const struct image *from)
{
	image->fcw = from->fcw;
	image->fsw = from->fsw;
	image->ftw = from->ftw;
	copy(image->st, from->st, sizeof image->st);
	image->xstate_bv |= COMPONENT_X87;
}

static void load_sse(struct vcpu *vcpu, struct image *image, const struct image *from)
{
	copy(image->xmm, from->xmm, vector_bytes(vcpu));
	image->xstate_bv |= COMPONENT_SSE;
}

bool fpu_fxrstor(struct vcpu *vcpu, const struct insn *insn)
{
	struct image from, *image;
	u64 address;

	if (!x87_available(vcpu) || !image_address(vcpu, insn, FXSAVE_ALIGN, &address) ||
	    !mem_read(vcpu, address, &from, FXSAVE_SIZE, ACCESS_READ))
		return false;
	if (!mxcsr_valid(vcpu, from.mxcsr))
		return raise_error(vcpu, VECTOR_GP, 0);

	image = saved_image(vcpu);
	load_x87(image, &from);
	load_sse(vcpu, image, &from);
	image->mxcsr = from.mxcsr;
	/* The silicon shall look at it before anyone reads it back: it knows what FSW.ES is now. */
	vectors_restore(vcpu);
	return true;
}

/* ------------------------------------------------------------------ XSAVE, XRSTOR */

/* SDM volume 1, "Operation of XSAVE": RFBM. */
static u64 requested(const struct vcpu *vcpu)
{
	u64 mask = (u32)vcpu->ctx.gpr[RAX] | vcpu->ctx.gpr[RDX] << 32;

	return mask & vcpu->xcr0 & COMPONENTS;
}

bool fpu_xsave(struct vcpu *vcpu, const struct insn *insn)
{
	const u64 mask = requested(vcpu);
	const bool avx = mask & COMPONENT_AVX;
	struct image *image;
	u64 address, xstate_bv;

	if (!xsave_available(vcpu) || !image_address(vcpu, insn, XSAVE_ALIGN, &address) ||
	    !mem_probe(vcpu, address, avx ? sizeof *image : LEGACY_SIZE, ACCESS_WRITE) ||
	    !mem_read(vcpu, address + offsetof(struct image, xstate_bv), &xstate_bv, 8,
		      ACCESS_READ))
		return false;

	image = saved_image(vcpu);
	xstate_bv = (xstate_bv & ~mask) | (image->xstate_bv & mask);
#define STORE(first, length)                                                                       \
	mem_write(vcpu, address + offsetof(struct image, first), &image->first, length,            \
		  ACCESS_WRITE)
	if (mask & COMPONENT_X87 &&
	    (!STORE(fcw, offsetof(struct image, mxcsr)) || !STORE(st, sizeof image->st)))
		return false;
	if (mask & (COMPONENT_SSE | COMPONENT_AVX) && !STORE(mxcsr, 8))
		return false;
	if (mask & COMPONENT_SSE && !STORE(xmm, vector_bytes(vcpu)))
		return false;
	if (avx && !STORE(ymm_high, vector_bytes(vcpu)))
		return false;
#undef STORE
	return mem_write(vcpu, address + offsetof(struct image, xstate_bv), &xstate_bv, 8,
			 ACCESS_WRITE);
}

/* SDM volume 1, "Operation of XRSTOR", the standard form; CPUID shows no compacted one. */
static bool header_valid(const struct vcpu *vcpu, const struct image *from)
{
	return !(from->xstate_bv & ~vcpu->xcr0) && !from->xcomp_bv && !from->header[0];
}

/* What the requested components are loaded with: what memory has, or the initial state. */
static void load_components(struct vcpu *vcpu, struct image *from, u64 mask)
{
	struct image *image = saved_image(vcpu);

	if (mask & ~from->xstate_bv & COMPONENT_X87) {
		clear(from, offsetof(struct image, mxcsr));
		clear(from->st, sizeof from->st);
		from->fcw = FCW_INIT;
	}
	if (mask & ~from->xstate_bv & COMPONENT_SSE)
		clear(from->xmm, sizeof from->xmm);
	if (mask & ~from->xstate_bv & COMPONENT_AVX)
		clear(from->ymm_high, sizeof from->ymm_high);

	if (mask & COMPONENT_X87)
		load_x87(image, from);
	if (mask & COMPONENT_SSE)
		load_sse(vcpu, image, from);
	if (mask & COMPONENT_AVX)
		copy(image->ymm_high, from->ymm_high, vector_bytes(vcpu));
	if (mask & (COMPONENT_SSE | COMPONENT_AVX))
		image->mxcsr = from->mxcsr; /* whatever XSTATE_BV says */

	/* Components that are initial again are called so, as long as no half of one is kept. */
	image->xstate_bv |= mask;
	if (vcpu_64bit(vcpu))
		image->xstate_bv &= ~(mask & ~from->xstate_bv);
}

bool fpu_xrstor(struct vcpu *vcpu, const struct insn *insn)
{
	const u64 mask = requested(vcpu);
	struct image from;
	u64 address;

	if (!xsave_available(vcpu) || !image_address(vcpu, insn, XSAVE_ALIGN, &address) ||
	    !mem_read(vcpu, address, &from, LEGACY_SIZE, ACCESS_READ))
		return false;
	if (!header_valid(vcpu, &from) ||
	    (mask & (COMPONENT_SSE | COMPONENT_AVX) && !mxcsr_valid(vcpu, from.mxcsr)))
		return raise_error(vcpu, VECTOR_GP, 0);
	if (mask & from.xstate_bv & COMPONENT_AVX &&
	    !mem_read(vcpu, address + LEGACY_SIZE, from.ymm_high, vector_bytes(vcpu), ACCESS_READ))
		return false;

	load_components(vcpu, &from, mask);
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
		clear(to + POINTERS_16, POINTERS_16_END - POINTERS_16);
	else
		clear(to + POINTERS_32, POINTERS_32_END - POINTERS_32);
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
	const u64 address = insn_address(vcpu, insn);

	if (!x87_available(vcpu) || !mem_probe(vcpu, address, length, ACCESS_WRITE))
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

/* ------------------------------------------------------------------ elements of vectors */

/* Where byte `at` of a vector register is in the image. No element lies on both sides of 16. */
static u8 *vector_at(struct image *image, unsigned reg, unsigned at)
{
	return at < 16 ? &image->xmm[reg][at] : &image->ymm_high[reg][at - 16];
}

static u64 element_read(struct image *image, unsigned reg, unsigned at, unsigned size)
{
	u32 value;
	u64 wide;

	if (size == 8) {
		__builtin_memcpy(&wide, vector_at(image, reg, at), 8);
		return wide;
	}
	__builtin_memcpy(&value, vector_at(image, reg, at), 4);
	return value;
}

static void element_write(struct image *image, unsigned reg, unsigned at, unsigned size, u64 value)
{
	if (size == 8)
		__builtin_memcpy(vector_at(image, reg, at), &value, 8);
	else
		__builtin_memcpy(vector_at(image, reg, at), &value, 4);
}

/* An element counts where its mask has the sign bit set. */
static bool element_wanted(struct image *image, unsigned mask, unsigned at, unsigned size)
{
	return element_read(image, mask, at, size) >> (size * 8 - 1);
}

static void clear_from(struct image *image, unsigned reg, unsigned at)
{
	for (; at < 32; at += 4)
		element_write(image, reg, at, 4, 0);
}

/* From here on the image holds more than XSAVE found. */
static void vectors_changed(struct image *image)
{
	image->xstate_bv |= COMPONENT_SSE | COMPONENT_AVX;
}

/* An offset in a segment, as an address: what insn_address() does for everybody else. */
static u64 offset_address(const struct vcpu *vcpu, const struct insn *insn, u64 offset)
{
	if (insn->addrsize == 4)
		offset = (u32)offset;
	else if (insn->addrsize == 2)
		offset = (u16)offset;
	offset += vcpu->ctx.base[insn->segment];
	return vcpu_64bit(vcpu) ? offset : (u32)offset;
}

/* ------------------------------------------------------------------ gathers */

static unsigned gather_size(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_VPGATHERDD:
	case ZYDIS_MNEMONIC_VPGATHERQD:
	case ZYDIS_MNEMONIC_VGATHERDPS:
	case ZYDIS_MNEMONIC_VGATHERQPS:
		return 4;
	default:
		return 8;
	}
}

static u64 gather_address(const struct vcpu *vcpu, const struct insn *insn, struct image *image,
			  unsigned element, unsigned index_size)
{
	u64 index = element_read(image, insn->index, element * index_size, index_size);
	u64 offset = insn->displacement;

	if (index_size == 4)
		index = (s64)(int32_t)index;
	if (insn->base != OPERAND_NONE)
		offset += vcpu->ctx.gpr[insn->base];
	return offset_address(vcpu, insn, offset + index * insn->scale);
}

/* What a guest that stops half-way sees of the mask: all of an element or nothing. */
static void widen_mask(struct image *image, unsigned mask, unsigned length, unsigned size)
{
	for (unsigned at = 0; at < length; at += size)
		element_write(image, mask, at, size,
			      element_wanted(image, mask, at, size) ? ~0ull : 0);
}

/*
 * SDM volume 2, VGATHERDPS and its kin: an element that was fetched is in its register, and its
 * mask is clear, before the next is looked at. So a fault needs nothing undone: the guest mends its
 * page and comes again for the rest. Odd opcodes have indices of 8 bytes.
 */
bool fpu_gather(struct vcpu *vcpu, const struct insn *insn)
{
	const unsigned size = gather_size(insn), index_size = insn->opcode & 1 ? 8 : 4;
	const unsigned count = insn->vlen / (size > index_size ? size : index_size);
	struct image *image;

	if (!avx_available(vcpu))
		return false;
	if (insn->reg == insn->vvvv || insn->reg == insn->index || insn->vvvv == insn->index)
		return raise_fault(vcpu, VECTOR_UD);

	image = saved_image(vcpu);
	vectors_changed(image);
	widen_mask(image, insn->vvvv, insn->vlen, size);
	clear_from(image, insn->vvvv, insn->vlen);
	for (unsigned i = 0; i < count; i++) {
		u64 value = 0;

		if (!element_wanted(image, insn->vvvv, i * size, size))
			continue;
		if (!mem_read(vcpu, gather_address(vcpu, insn, image, i, index_size), &value, size,
			      ACCESS_READ))
			return false;
		element_write(image, insn->reg, i * size, size, value);
		clear_from(image, insn->reg, insn->vlen);
		element_write(image, insn->vvvv, i * size, size, 0);
	}
	clear_from(image, insn->vvvv, 0);
	clear_from(image, insn->reg, count * size);
	return true;
}

/* ------------------------------------------------------------------ masked moves */

static bool masked_load(struct vcpu *vcpu, const struct insn *insn, unsigned size, u64 address)
{
	struct image *image = saved_image(vcpu);
	u64 values[32 / 4];

	for (unsigned at = 0; at < insn->vlen; at += size) {
		u64 *value = &values[at / size];

		*value = 0;
		if (element_wanted(image, insn->vvvv, at, size) &&
		    !mem_read(vcpu, address + at, value, size, ACCESS_READ))
			return false;
	}

	vectors_changed(image);
	for (unsigned at = 0; at < insn->vlen; at += size)
		element_write(image, insn->reg, at, size, values[at / size]);
	clear_from(image, insn->reg, insn->vlen);
	return true;
}

static bool masked_store(struct vcpu *vcpu, const struct insn *insn, unsigned size, u64 address)
{
	struct image *image = saved_image(vcpu);

	for (unsigned at = 0; at < insn->vlen; at += size)
		if (element_wanted(image, insn->vvvv, at, size) &&
		    !mem_probe(vcpu, address + at, size, ACCESS_WRITE))
			return false;

	for (unsigned at = 0; at < insn->vlen; at += size)
		if (element_wanted(image, insn->vvvv, at, size) &&
		    !mem_write(vcpu, address + at, vector_at(image, insn->reg, at), size,
			       ACCESS_WRITE))
			return false;
	return true;
}

/* Those bytes of `data` whose mask has bit 7 set, to rDI. */
static bool store_bytes(struct vcpu *vcpu, const struct insn *insn, const u8 *data, const u8 *mask,
			unsigned length)
{
	const u64 address = offset_address(vcpu, insn, vcpu->ctx.gpr[RDI]);

	for (unsigned i = 0; i < length; i++)
		if (mask[i] & 0x80 && !mem_probe(vcpu, address + i, 1, ACCESS_WRITE))
			return false;
	for (unsigned i = 0; i < length; i++)
		if (mask[i] & 0x80 && !mem_write(vcpu, address + i, &data[i], 1, ACCESS_WRITE))
			return false;
	return true;
}

/*
 * SDM volume 1, "Effect of MMX Instructions on x87 FPU State": the top of the stack becomes 0, and
 * all registers are in use. The image has the stack from its top, so its registers move.
 */
static void enter_mmx(struct image *image)
{
	const unsigned top = (image->fsw & FSW_TOP) >> FSW_TOP_SHIFT;
	u8 stack[8][16];

	copy(stack, image->st, sizeof stack);
	for (unsigned i = 0; i < 8; i++)
		copy(image->st[(i + top) & 7], stack[i], 16);
	image->fsw &= ~FSW_TOP;
	image->ftw = 0xff;
	image->xstate_bv |= COMPONENT_X87;
}

static bool maskmovq(struct vcpu *vcpu, const struct insn *insn)
{
	struct image *image;
	unsigned top;

	if (vcpu->cr0 & X86_CR0_EM)
		return raise_fault(vcpu, VECTOR_UD);
	if (!x87_available(vcpu))
		return false;
	image = saved_image(vcpu);
	if (image->fsw & FSW_ES)
		return raise_fault(vcpu, VECTOR_MF);

	top = (image->fsw & FSW_TOP) >> FSW_TOP_SHIFT;
	if (!store_bytes(vcpu, insn, image->st[(insn->reg - top) & 7],
			 image->st[(insn->rm - top) & 7], 8))
		return false;
	enter_mmx(image);
	return true;
}

static bool maskmovdqu(struct vcpu *vcpu, const struct insn *insn)
{
	struct image *image = saved_image(vcpu);

	return store_bytes(vcpu, insn, image->xmm[insn->reg], image->xmm[insn->rm], 16);
}

bool fpu_maskmov(struct vcpu *vcpu, const struct insn *insn)
{
	const bool store = insn->opcode & 2; /* of the four that name their memory */
	unsigned size;

	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_MASKMOVQ:
		return maskmovq(vcpu, insn);
	case ZYDIS_MNEMONIC_MASKMOVDQU:
		return sse_available(vcpu) && maskmovdqu(vcpu, insn);
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
		return avx_available(vcpu) && maskmovdqu(vcpu, insn);
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
		size = 4;
		break;
	default:
		size = 8;
	}
	if (!avx_available(vcpu))
		return false;
	if (store)
		return masked_store(vcpu, insn, size, insn_address(vcpu, insn));
	return masked_load(vcpu, insn, size, insn_address(vcpu, insn));
}
