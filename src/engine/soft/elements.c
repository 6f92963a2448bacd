/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions that touch memory element by element: gathers, scatters, the masked moves of AVX
 * and MASKMOVDQU. Each element wants its own look at the guest's page tables, so C executes them,
 * on the saved image of the guest's registers (fpu.c).
 *
 * AVX-512's masked moves are not here: they pass (evex.c).
 *
 * Tour 6.850: Element by element
 */
#include "engine/soft/fpu.h"
#include "engine/soft/segment.h"

#include <Zydis/Mnemonic.h>

#define FSW_ES	      0x80u /* an exception waits for the next instruction that looks */
#define FSW_TOP_SHIFT 11
#define FSW_TOP	      (7u << FSW_TOP_SHIFT)

static u64 element_read(struct vcpu *vcpu, unsigned reg, unsigned at, unsigned size)
{
	u32 value;
	u64 wide;

	if (size == 8) {
		__builtin_memcpy(&wide, fpu_vector_at(vcpu, reg, at), 8);
		return wide;
	}
	__builtin_memcpy(&value, fpu_vector_at(vcpu, reg, at), 4);
	return value;
}

static void element_write(struct vcpu *vcpu, unsigned reg, unsigned at, unsigned size, u64 value)
{
	if (size == 8)
		__builtin_memcpy(fpu_vector_at(vcpu, reg, at), &value, 8);
	else
		__builtin_memcpy(fpu_vector_at(vcpu, reg, at), &value, 4);
}

/* An element counts where its mask has the sign bit set. */
static bool element_wanted(struct vcpu *vcpu, unsigned mask, unsigned at, unsigned size)
{
	return element_read(vcpu, mask, at, size) >> (size * 8 - 1);
}

/* ------------------------------------------------------------------ gathers and scatters */

static unsigned gather_size(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_VPGATHERDD:
	case ZYDIS_MNEMONIC_VPGATHERQD:
	case ZYDIS_MNEMONIC_VGATHERDPS:
	case ZYDIS_MNEMONIC_VGATHERQPS:
	case ZYDIS_MNEMONIC_VPSCATTERDD:
	case ZYDIS_MNEMONIC_VPSCATTERQD:
	case ZYDIS_MNEMONIC_VSCATTERDPS:
	case ZYDIS_MNEMONIC_VSCATTERQPS:
		return 4;
	default:
		return 8;
	}
}

/* Odd opcodes have indices of 8 bytes. */
static unsigned index_size(const struct insn *insn)
{
	return insn->opcode & 1 ? 8 : 4;
}

static unsigned gather_count(const struct insn *insn)
{
	return insn->vlen / MAX(gather_size(insn), index_size(insn));
}

static bool gather_access(struct vcpu *vcpu, const struct insn *insn, unsigned element,
			  enum access access, u64 *address)
{
	const unsigned size = index_size(insn);
	u64 index = element_read(vcpu, insn->index, element * size, size);
	u64 offset = insn->displacement;

	if (size == 4)
		index = (s64)(int32_t)index;
	if (insn->base != OPERAND_NONE)
		offset += vcpu->ctx.gpr[insn->base];
	offset = (offset + index * insn->scale) & width_mask(insn->addrsize);
	return segment_access(vcpu, insn->segment, offset, gather_size(insn), access, address);
}

/* What a guest that stops half-way sees of the mask: all of an element or nothing. */
static void widen_mask(struct vcpu *vcpu, unsigned mask, unsigned length, unsigned size)
{
	for (unsigned at = 0; at < length; at += size)
		element_write(vcpu, mask, at, size,
			      element_wanted(vcpu, mask, at, size) ? ~0ull : 0);
}

/*
 * SDM volume 2, VGATHERDPS and its kin: an element that was fetched is in its register, and its
 * mask is clear, before the next is looked at. So a fault needs nothing undone: the guest mends its
 * page and comes again for the rest.
 */
bool fpu_gather(struct vcpu *vcpu, const struct insn *insn)
{
	const unsigned size = gather_size(insn), count = gather_count(insn);

	if (!fpu_avx_available(vcpu))
		return false;
	if (insn->reg == insn->vvvv || insn->reg == insn->index || insn->vvvv == insn->index)
		return raise_fault(vcpu, VECTOR_UD);

	vectors_save(vcpu);
	fpu_changed(vcpu, COMPONENT_SSE | COMPONENT_AVX);
	widen_mask(vcpu, insn->vvvv, insn->vlen, size);
	fpu_clear_vector(vcpu, insn->vvvv, insn->vlen);
	for (unsigned i = 0; i < count; i++) {
		u64 value = 0, address;

		if (!element_wanted(vcpu, insn->vvvv, i * size, size))
			continue;
		if (!gather_access(vcpu, insn, i, ACCESS_READ, &address) ||
		    !mem_read(vcpu, address, &value, size, ACCESS_READ))
			return false;
		element_write(vcpu, insn->reg, i * size, size, value);
		fpu_clear_vector(vcpu, insn->reg, insn->vlen);
		element_write(vcpu, insn->vvvv, i * size, size, 0);
	}
	fpu_clear_vector(vcpu, insn->vvvv, 0);
	fpu_clear_vector(vcpu, insn->reg, count * size);
	return true;
}

static void write_mask(struct vcpu *vcpu, unsigned reg, u64 value)
{
	__builtin_memcpy(fpu_component(vcpu, OPMASK) + 8 * reg, &value, sizeof(value));
}

/* All that one may have written: which half of a register is in use, is too fine a question. */
static void changed_all(struct vcpu *vcpu)
{
	fpu_changed(vcpu, COMPONENT_SSE | COMPONENT_AVX);
	fpu_component(vcpu, ZMM_HIGH);
}

/* The same with a mask register. */
bool fpu_gather_masked(struct vcpu *vcpu, const struct insn *insn)
{
	const unsigned size = gather_size(insn), count = gather_count(insn);
	u64 mask;

	if (!fpu_avx512_available(vcpu))
		return false;
	if (insn->reg == insn->index)
		return raise_fault(vcpu, VECTOR_UD);

	vectors_save(vcpu);
	changed_all(vcpu);
	mask = fpu_saved_mask(vcpu, insn->mask);
	for (unsigned i = 0; i < count; i++) {
		u64 value = 0, address;

		if (!(mask >> i & 1))
			continue;
		if (!gather_access(vcpu, insn, i, ACCESS_READ, &address) ||
		    !mem_read(vcpu, address, &value, size, ACCESS_READ))
			return false;
		element_write(vcpu, insn->reg, i * size, size, value);
		fpu_clear_vector(vcpu, insn->reg, insn->vlen);
		mask &= ~(1ull << i);
		write_mask(vcpu, insn->mask, mask);
	}
	write_mask(vcpu, insn->mask, 0);
	fpu_clear_vector(vcpu, insn->reg, count * size);
	return true;
}

/* Elements with the same address are stored in order: the last one stays. */
bool fpu_scatter(struct vcpu *vcpu, const struct insn *insn)
{
	const unsigned size = gather_size(insn), count = gather_count(insn);
	u64 mask;

	if (!fpu_avx512_available(vcpu))
		return false;

	vectors_save(vcpu);
	mask = fpu_saved_mask(vcpu, insn->mask);
	for (unsigned i = 0; i < count; i++) {
		u64 address;

		if (!(mask >> i & 1))
			continue;
		if (!gather_access(vcpu, insn, i, ACCESS_WRITE, &address) ||
		    !mem_write(vcpu, address, fpu_vector_at(vcpu, insn->reg, i * size), size,
			       ACCESS_WRITE))
			return false;
		mask &= ~(1ull << i);
		write_mask(vcpu, insn->mask, mask);
	}
	write_mask(vcpu, insn->mask, 0);
	return true;
}

/* ------------------------------------------------------------------ masked moves */

static bool masked_load(struct vcpu *vcpu, const struct insn *insn, unsigned size)
{
	u64 values[32 / 4], address;

	for (unsigned at = 0; at < insn->vlen; at += size) {
		u64 *value = &values[at / size];

		*value = 0;
		if (element_wanted(vcpu, insn->vvvv, at, size) &&
		    (!insn_access(vcpu, insn, at, size, ACCESS_READ, &address) ||
		     !mem_read(vcpu, address, value, size, ACCESS_READ)))
			return false;
	}

	fpu_changed(vcpu, COMPONENT_SSE | COMPONENT_AVX);
	for (unsigned at = 0; at < insn->vlen; at += size)
		element_write(vcpu, insn->reg, at, size, values[at / size]);
	fpu_clear_vector(vcpu, insn->reg, insn->vlen);
	return true;
}

static bool masked_store(struct vcpu *vcpu, const struct insn *insn, unsigned size)
{
	u64 address;

	for (unsigned at = 0; at < insn->vlen; at += size)
		if (element_wanted(vcpu, insn->vvvv, at, size) &&
		    (!insn_access(vcpu, insn, at, size, ACCESS_WRITE, &address) ||
		     !mem_probe(vcpu, address, size, ACCESS_WRITE)))
			return false;

	for (unsigned at = 0; at < insn->vlen; at += size)
		if (element_wanted(vcpu, insn->vvvv, at, size) &&
		    (!insn_access(vcpu, insn, at, size, ACCESS_WRITE, &address) ||
		     !mem_write(vcpu, address, fpu_vector_at(vcpu, insn->reg, at), size,
				ACCESS_WRITE)))
			return false;
	return true;
}

/* Those bytes of `data` whose mask has bit 7 set, to rDI. */
static bool store_bytes(struct vcpu *vcpu, const struct insn *insn, const u8 *data, const u8 *mask,
			unsigned length)
{
	const u64 offsets = width_mask(insn->addrsize);
	u64 address;

	for (unsigned i = 0; i < length; i++)
		if (mask[i] & 0x80 &&
		    (!segment_access(vcpu, insn->segment, (vcpu->ctx.gpr[RDI] + i) & offsets, 1,
				     ACCESS_WRITE, &address) ||
		     !mem_probe(vcpu, address, 1, ACCESS_WRITE)))
			return false;
	for (unsigned i = 0; i < length; i++)
		if (mask[i] & 0x80 &&
		    (!segment_access(vcpu, insn->segment, (vcpu->ctx.gpr[RDI] + i) & offsets, 1,
				     ACCESS_WRITE, &address) ||
		     !mem_write(vcpu, address, &data[i], 1, ACCESS_WRITE)))
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

	fpu_copy(stack, image->st, sizeof stack);
	for (unsigned i = 0; i < 8; i++)
		fpu_copy(image->st[(i + top) & 7], stack[i], 16);
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
	if (!fpu_x87_available(vcpu))
		return false;
	image = fpu_image(vcpu);
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
	struct image *image = fpu_image(vcpu);

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
		return fpu_sse_available(vcpu) && maskmovdqu(vcpu, insn);
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
		return fpu_avx_available(vcpu) && maskmovdqu(vcpu, insn);
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
		size = 4;
		break;
	default:
		size = 8;
	}
	if (!fpu_avx_available(vcpu))
		return false;
	if (store)
		return masked_store(vcpu, insn, size);
	return masked_load(vcpu, insn, size);
}
