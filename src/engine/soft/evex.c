/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AVX-512, as far as it is different: instructions with an EVEX prefix that pass, and what
 * their masks mean for memory.
 *
 * A register is renamed as in VEX, but for a bit more of each field. A memory operand is r9 + r10
 * without a displacement, so nobody has to know by what a displacement of 8 bits would be
 * scaled.
 *
 * With a mask, elements that are masked off are not touched, and cause no fault. The silicon
 * does that by itself where the whole operand is in RAM that may be accessed, and that is
 * what the probe finds out. Where it is not, mmu.c asks evex_touched() which bytes count, looks
 * only at their pages, and lets the instruction run on the bounce buffer.
 *
 * Gathers and scatters are in elements.c.
 *
 * Tour 6.240: AVX-512, as far as it is different
 */
#include "engine/soft/translation.h"

/* ------------------------------------------------------------------ the encoding */

/* Intel SDM volume 2, "EVEX Prefix": stored upside down are R, X, B, R', vvvv and V'. */
#define P0_R	     0x80u
#define P0_X	     0x40u
#define P0_B	     0x20u
#define P0_R_HIGH    0x10u
#define P0_REGISTERS 0xf0u
#define P1_W	     0x80u
#define P1_VVVV_3    0x40u
#define P2_V_HIGH    0x08u

/* Does EVEX.W choose between 32 and 64 bits of a general register, or of memory in its place? */
static bool w_is_width(const ZydisDecodedInstruction *zi)
{
	switch (zi->opcode_map) {
	case ZYDIS_OPCODE_MAP_0F:
		switch (zi->opcode) {
		case 0x2a: /* conversions from and to integers */
		case 0x2c:
		case 0x2d:
			return true;
		case 0x6e: /* VMOVD and VMOVQ, but for that between vector registers */
		case 0x7e:
			return zi->raw.evex.pp == 1;
		case 0x78: /* to unsigned integers, but for packed ones */
		case 0x79:
		case 0x7b:
			return zi->raw.evex.pp >= 2;
		default:
			return false;
		}
	case ZYDIS_OPCODE_MAP_0F38:
		return zi->opcode == 0x7c; /* VPBROADCASTD and Q */
	case ZYDIS_OPCODE_MAP_0F3A:
		return zi->opcode == 0x16 || zi->opcode == 0x22; /* VPEXTR and VPINSR */
	case ZYDIS_OPCODE_MAP_MAP5:
		return zi->opcode == 0x2a || zi->opcode == 0x2c || zi->opcode == 0x2d ||
		       ((zi->opcode == 0x78 || zi->opcode == 0x79 || zi->opcode == 0x7b) &&
			zi->raw.evex.pp == 2);
	default:
		return false;
	}
}

void put_evex(struct translation *t, const struct renamed *r)
{
	struct emit *e = &t->e;
	const ZydisDecodedInstruction *zi = &t->zi;
	const u8 *evex = t->bytes + zi->raw.evex.offset;
	unsigned reg = r->reg != NO_REGISTER ? r->reg : zi->raw.modrm.reg;
	unsigned rm = r->rm != NO_REGISTER ? r->rm : zi->raw.modrm.rm;
	u8 first = evex[1], second = evex[2], third = evex[3];

	/* Outside 64-bit mode there are eight registers of 32 bits, whatever these bits say. */
	if (!t->wide) {
		first |= P0_REGISTERS;
		second |= P1_VVVV_3;
		third |= P2_V_HIGH;
		if (w_is_width(zi))
			second &= ~P1_W;
	}
	if (r->reg != NO_REGISTER)
		first = (first & ~(P0_R | P0_R_HIGH)) | P0_R_HIGH | (reg & 8 ? 0 : P0_R);
	if (r->memory || r->rm != NO_REGISTER) {
		unsigned base = r->memory ? r->base : rm;
		unsigned index = r->memory ? register_or_0(r->index) : 0;

		first = (first & ~(P0_X | P0_B)) | (index & 8 ? 0 : P0_X) | (base & 8 ? 0 : P0_B);
	}
	emit_u8(e, evex[0]);
	emit_u8(e, first);
	emit_u8(e, second);
	emit_u8(e, third);
	emit_u8(e, zi->opcode);
	put_operand_bytes(t, r, reg, rm);
}

/* ------------------------------------------------------------------ masks and memory */

/*
 * SDM volume 2, "EVEX Instruction Exception Classes": those of them that ignore masks in that.
 * VDBPSADBW is in E4NF to the manual and to the silicon, in E4 to the decoder; the others to the
 * manual.
 */
static bool suppresses_faults(const ZydisDecodedInstruction *zi)
{
	switch (zi->mnemonic) {
	case ZYDIS_MNEMONIC_VDBPSADBW:
	case ZYDIS_MNEMONIC_VCVTNE2PS2BF16:
	case ZYDIS_MNEMONIC_VGF2P8AFFINEQB:
	case ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB:
		return false;
	default:
		break;
	}
	switch (zi->meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_E1NF:
	case ZYDIS_EXCEPTION_CLASS_E2NF:
	case ZYDIS_EXCEPTION_CLASS_E3NF:
	case ZYDIS_EXCEPTION_CLASS_E4NF:
	case ZYDIS_EXCEPTION_CLASS_E5NF:
	case ZYDIS_EXCEPTION_CLASS_E6NF:
	case ZYDIS_EXCEPTION_CLASS_E9NF:
	case ZYDIS_EXCEPTION_CLASS_E10NF:
	case ZYDIS_EXCEPTION_CLASS_E11NF:
		return false;
	default:
		return true;
	}
}

/* They load or store as many elements as the mask has bits, without gaps. */
static bool is_packed(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_VCOMPRESSPS:
	case ZYDIS_MNEMONIC_VCOMPRESSPD:
	case ZYDIS_MNEMONIC_VPCOMPRESSB:
	case ZYDIS_MNEMONIC_VPCOMPRESSW:
	case ZYDIS_MNEMONIC_VPCOMPRESSD:
	case ZYDIS_MNEMONIC_VPCOMPRESSQ:
	case ZYDIS_MNEMONIC_VEXPANDPS:
	case ZYDIS_MNEMONIC_VEXPANDPD:
	case ZYDIS_MNEMONIC_VPEXPANDB:
	case ZYDIS_MNEMONIC_VPEXPANDW:
	case ZYDIS_MNEMONIC_VPEXPANDD:
	case ZYDIS_MNEMONIC_VPEXPANDQ:
		return true;
	default:
		return false;
	}
}

/*
 * The bits of the mask count elements of the result. Those are larger than the operand's where four
 * bytes or two halves make one (VPDPBUSD, VDPBF16PS), and where numbers become wider ones.
 */
static unsigned result_bits(const struct translation *t)
{
	const ZydisDecodedOperand *result = &t->op[0];

	if (result->type == ZYDIS_OPERAND_TYPE_REGISTER &&
	    ZydisRegisterGetClass(result->reg.value) != ZYDIS_REGCLASS_MASK)
		return result->element_size;
	return 0;
}

u64 evex_masked(const struct translation *t, const ZydisDecodedOperand *memory)
{
	const ZydisDecodedInstruction *zi = &t->zi;
	unsigned mask = zi->avx.mask.reg - ZYDIS_REGISTER_K0;
	unsigned element = memory->element_size, result = result_bits(t);
	struct masked masked = {.is = true, .reg = mask, .packed = is_packed(zi->mnemonic)};
	u64 arg;

	/* Where the decoder knows of no elements all of it counts. */
	if (zi->encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX || !mask || !element)
		return 0;
	masked.whole = !suppresses_faults(zi);
	if (masked.whole && !operand_writes(memory))
		return 0;
	if (zi->avx.broadcast.mode == ZYDIS_BROADCAST_MODE_INVALID) {
		if (memory->size == t->op[0].size)
			element = MAX(element, result);
		masked.bits = memory->size / element;
	} else {
		masked.bits = zi->avx.vector_length / MAX(element, result);
	}
	masked.size = element / 8;
	masked.elements = memory->size / element;
	__builtin_memcpy(&arg, &masked, sizeof(arg));
	return arg;
}

static u64 low_bits(unsigned count)
{
	return count < 64 ? (1ull << count) - 1 : ~0ull;
}

bool evex_wants_whole(const struct site *site)
{
	struct masked masked;

	__builtin_memcpy(&masked, &site->arg, sizeof(masked));
	return masked.whole;
}

u64 evex_touched(struct vcpu *vcpu, const struct site *site)
{
	struct masked masked;
	u64 mask, touched = 0;
	unsigned wanted = 0;

	__builtin_memcpy(&masked, &site->arg, sizeof(masked));
	vectors_save(vcpu);
	mask = fpu_saved_mask(vcpu, masked.reg) & low_bits(masked.bits);
	for (; mask; mask &= mask - 1) {
		unsigned bit = __builtin_ctzll(mask);
		unsigned element = masked.packed ? wanted++ : bit % masked.elements;

		touched |= low_bits(masked.size) << element * masked.size;
	}
	return touched;
}
