/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing host instructions, one small function each. None of what is here
 * touches the flags: they are the guest's.
 *
 * The caller made sure that there is room (struct emit has no end to run past: a block's
 * worst case is reserved before it is begun).
 *
 * Tour 6.260: Writing machine code
 */
#ifndef ENGINE_SOFT_EMIT_H
#define ENGINE_SOFT_EMIT_H

#include "engine/soft/context.h"

/* Host registers by their numbers. See context.h for what they hold. */
enum { H_RAX, H_RCX, H_RDX, H_RBX, H_RSP, H_RBP, H_RSI, H_RDI };
#define H_SCRATCH   H_RCX
#define H_ADDRESS   9  /* the virtual address of an access */
#define H_ADDEND    10 /* what makes it a host address */
#define H_GUEST_RCX 11
#define H_GUEST_RSP 15

/* MOV of more than a byte, from and to what ModRM.rm says. */
#define OPCODE_LOAD  0x8b
#define OPCODE_STORE 0x89

/* Call, jump to or push what ModRM.rm says; ModRM.reg says which of them. */
#define OPCODE_GROUP5 0xff
enum { EXTENSION_CALL = 2, EXTENSION_JMP = 4, EXTENSION_PUSH = 6 };

struct emit {
	u8 *at;		 /* where we write */
	ptrdiff_t shift; /* from there to where it will run */
};

static inline void emit_u8(struct emit *e, u8 byte)
{
	*e->at++ = byte;
}

static inline void emit_u32(struct emit *e, u32 value)
{
	__builtin_memcpy(e->at, &value, 4);
	e->at += 4;
}

static inline void emit_u64(struct emit *e, u64 value)
{
	__builtin_memcpy(e->at, &value, 8);
	e->at += 8;
}

static inline void emit_rex(struct emit *e, bool w, unsigned reg, unsigned index, unsigned base)
{
	emit_u8(e,
		0x40 | (w ? 8 : 0) | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1));
}

static inline void emit_modrm(struct emit *e, unsigned mod, unsigned reg, unsigned rm)
{
	emit_u8(e, mod << 6 | (reg & 7) << 3 | (rm & 7));
}

/* op reg, gs:[offset]; the opcode has one byte. */
static inline void emit_gs(struct emit *e, u8 opcode, bool w, unsigned reg, u32 offset)
{
	emit_u8(e, 0x65);
	emit_rex(e, w, reg, 0, 0);
	emit_u8(e, opcode);
	emit_modrm(e, 0, reg, 4);
	emit_u8(e, 0x25);
	emit_u32(e, offset);
}

static inline void emit_load_gs(struct emit *e, unsigned reg, u32 offset)
{
	emit_gs(e, OPCODE_LOAD, true, reg, offset);
}

/* mov reg32, gs:[offset] */
static inline void emit_load32_gs(struct emit *e, unsigned reg, u32 offset)
{
	emit_gs(e, OPCODE_LOAD, false, reg, offset);
}

static inline void emit_store_gs(struct emit *e, u32 offset, unsigned reg)
{
	emit_gs(e, OPCODE_STORE, true, reg, offset);
}

static inline void emit_mov(struct emit *e, unsigned to, unsigned from)
{
	emit_rex(e, true, from, 0, to);
	emit_u8(e, OPCODE_STORE);
	emit_modrm(e, 3, from, to);
}

/* mov to32, from32: clears the upper half. */
static inline void emit_mov32(struct emit *e, unsigned to, unsigned from)
{
	emit_rex(e, false, from, 0, to);
	emit_u8(e, OPCODE_STORE);
	emit_modrm(e, 3, from, to);
}

static inline void emit_mov_imm32(struct emit *e, unsigned to, u32 value)
{
	emit_rex(e, false, 0, 0, to);
	emit_u8(e, 0xb8 | (to & 7));
	emit_u32(e, value);
}

static inline void emit_mov_imm64(struct emit *e, unsigned to, u64 value)
{
	emit_rex(e, true, 0, 0, to);
	emit_u8(e, 0xb8 | (to & 7));
	emit_u64(e, value);
}

#define NO_REGISTER 0xffu

/* The bytes of a memory operand after the opcode; base and index may be missing; no rip. */
static inline void emit_memory(struct emit *e, unsigned reg, unsigned base, unsigned index,
			       unsigned scale, int32_t displacement)
{
	unsigned shift = scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;

	if (base == NO_REGISTER) {
		emit_modrm(e, 0, reg, 4);
		emit_u8(e, shift << 6 | (index == NO_REGISTER ? 4 : index & 7) << 3 | 5);
		emit_u32(e, displacement);
		return;
	}
	unsigned mod = displacement || (base & 7) == 5 ? 1 : 0;

	if (displacement != (signed char)displacement)
		mod = 2;
	if (index == NO_REGISTER && (base & 7) != 4) {
		emit_modrm(e, mod, reg, base);
	} else {
		emit_modrm(e, mod, reg, 4);
		emit_u8(e, shift << 6 | (index == NO_REGISTER ? 4 : index & 7) << 3 | (base & 7));
	}
	if (mod == 1)
		emit_u8(e, displacement);
	else if (mod == 2)
		emit_u32(e, displacement);
}

static inline unsigned register_or_0(unsigned reg)
{
	return reg == NO_REGISTER ? 0 : reg;
}

/* wide: 64 bits; else the result has 32, and the upper half is clear. */
static inline void emit_lea(struct emit *e, bool wide, unsigned to, unsigned base, unsigned index,
			    unsigned scale, int32_t displacement)
{
	emit_rex(e, wide, to, register_or_0(index), register_or_0(base));
	emit_u8(e, 0x8d);
	emit_memory(e, to, base, index, scale, displacement);
}

/* mov reg32, [base + offset] */
static inline void emit_load32(struct emit *e, unsigned reg, unsigned base, int32_t offset)
{
	emit_rex(e, false, reg, 0, base);
	emit_u8(e, OPCODE_LOAD);
	emit_memory(e, reg, base, NO_REGISTER, 1, offset);
}

/* pext to, from, gs:[offset], or, with the other prefix, pdep */
static inline void emit_bits_gs(struct emit *e, u8 prefix, unsigned to, unsigned from, u32 offset)
{
	emit_u8(e, 0x65);
	emit_u8(e, 0xc4);
	emit_u8(e, (to & 8 ? 0 : 0x80) | 0x60 | 2);
	emit_u8(e, 0x80 | (~from & 15) << 3 | prefix);
	emit_u8(e, 0xf5);
	emit_modrm(e, 0, to, 4);
	emit_u8(e, 0x25);
	emit_u32(e, offset);
}

static inline void emit_pext_gs(struct emit *e, unsigned to, unsigned from, u32 offset)
{
	emit_bits_gs(e, 2, to, from, offset);
}

static inline void emit_pdep_gs(struct emit *e, unsigned to, unsigned from, u32 offset)
{
	emit_bits_gs(e, 3, to, from, offset);
}

/* pext to, from, [base + offset] */
static inline void emit_pext_memory(struct emit *e, unsigned to, unsigned from, unsigned base,
				    int32_t offset)
{
	emit_u8(e, 0xc4);
	emit_u8(e, (to & 8 ? 0 : 0x80) | 0x40 | (base & 8 ? 0 : 0x20) | 2);
	emit_u8(e, 0x80 | (~from & 15) << 3 | 2);
	emit_u8(e, 0xf5);
	emit_memory(e, to, base, NO_REGISTER, 1, offset);
}

/* rorx to, from, count */
static inline void emit_rorx(struct emit *e, unsigned to, unsigned from, u8 count)
{
	emit_u8(e, 0xc4);
	emit_u8(e, (to & 8 ? 0 : 0x80) | 0x40 | (from & 8 ? 0 : 0x20) | 3);
	emit_u8(e, 0x80 | 15 << 3 | 3);
	emit_u8(e, 0xf0);
	emit_modrm(e, 3, to, from);
	emit_u8(e, count);
}

/*
 * sarx, shrx or shlx to, from, count: VEX.pp tells them apart. They are shifts that touch no
 * flags, and one of them is the last step of each probe of the TLB. This is what a machine
 * instruction looks like from inside: a prefix with some bits of the registers, upside down,
 * an opcode, and the rest of the registers.
 *
 * Tour 6.261: An instruction, byte by byte
 */
static inline void emit_shift_by(struct emit *e, unsigned pp, unsigned to, unsigned from,
				 unsigned count)
{
	emit_u8(e, 0xc4);
	emit_u8(e, (to & 8 ? 0 : 0x80) | 0x40 | (from & 8 ? 0 : 0x20) | 2);
	emit_u8(e, 0x80 | (~count & 15) << 3 | pp);
	emit_u8(e, 0xf7);
	emit_modrm(e, 3, to, from);
}

static inline void emit_sarx(struct emit *e, unsigned to, unsigned from, unsigned count)
{
	emit_shift_by(e, 2, to, from, count);
}

static inline void emit_shrx(struct emit *e, unsigned to, unsigned from, unsigned count)
{
	emit_shift_by(e, 3, to, from, count);
}

static inline void emit_shlx(struct emit *e, unsigned to, unsigned from, unsigned count)
{
	emit_shift_by(e, 1, to, from, count);
}

/* movzx to32, from16 */
static inline void emit_movzx16(struct emit *e, unsigned to, unsigned from)
{
	emit_rex(e, false, to, 0, from);
	emit_u8(e, 0x0f);
	emit_u8(e, 0xb7);
	emit_modrm(e, 3, to, from);
}

/* movzx to32, from8 (the low byte) */
static inline void emit_movzx8(struct emit *e, unsigned to, unsigned from)
{
	emit_rex(e, false, to, 0, from);
	emit_u8(e, 0x0f);
	emit_u8(e, 0xb6);
	emit_modrm(e, 3, to, from);
}

/* movsx to64, from of 2 or 4 bytes */
static inline void emit_movsx(struct emit *e, unsigned to, unsigned from, unsigned size)
{
	emit_rex(e, true, to, 0, from);
	if (size == 2) {
		emit_u8(e, 0x0f);
		emit_u8(e, 0xbf);
	} else {
		emit_u8(e, 0x63);
	}
	emit_modrm(e, 3, to, from);
}

/* not reg: minus reg, minus 1; unlike NEG and SUB it leaves the flags alone. */
static inline void emit_not(struct emit *e, unsigned reg)
{
	emit_rex(e, true, 0, 0, reg);
	emit_u8(e, 0xf7);
	emit_modrm(e, 3, 2, reg);
}

/* jrcxz to a place not far behind: returns where to put the distance. */
static inline u8 *emit_jrcxz(struct emit *e)
{
	emit_u8(e, 0xe3);
	emit_u8(e, 0);
	return e->at - 1;
}

/* The same, back to where something is already. False, and nothing: it is too far. */
static inline bool emit_jrcxz_to(struct emit *e, const u8 *to)
{
	ptrdiff_t distance = to - (e->at + 2);

	if (distance < -128)
		return false;
	emit_u8(e, 0xe3);
	emit_u8(e, distance);
	return true;
}

static inline void emit_jrcxz_here(struct emit *e, u8 *distance)
{
	*distance = e->at - distance - 1;
}

/* A jump with 32 bits of distance: returns where they are. */
static inline u8 *emit_jmp(struct emit *e)
{
	emit_u8(e, 0xe9);
	emit_u32(e, 0);
	return e->at - 4;
}

static inline u8 *emit_jcc(struct emit *e, u8 condition)
{
	emit_u8(e, 0x0f);
	emit_u8(e, 0x80 | condition);
	emit_u32(e, 0);
	return e->at - 4;
}

/* Both are addresses of the same kind: where we write. */
static inline void emit_set_jump(u8 *distance, const u8 *to)
{
	u32 value = to - (distance + 4);

	__builtin_memcpy(distance, &value, 4);
}

/* op gs:[index * 8 + offset]; `extension`: a register, or what takes its place in ModRM. */
static inline void emit_op_gs_indexed(struct emit *e, bool w, u8 opcode, unsigned extension,
				      unsigned index, u32 offset)
{
	emit_u8(e, 0x65);
	emit_rex(e, w, extension, index, 0);
	emit_u8(e, opcode);
	emit_modrm(e, 0, extension, 4);
	emit_u8(e, 3 << 6 | (index & 7) << 3 | 5);
	emit_u32(e, offset);
}

/* op [base + index * 8 + offset] */
static inline void emit_op_indexed(struct emit *e, bool w, u8 opcode, unsigned extension,
				   unsigned base, unsigned index, int32_t offset)
{
	emit_rex(e, w, extension, index, base);
	emit_u8(e, opcode);
	emit_memory(e, extension, base, index, 8, offset);
}

/* A call with 32 bits of distance: returns where they are. */
static inline u8 *emit_call(struct emit *e)
{
	emit_u8(e, 0xe8);
	emit_u32(e, 0);
	return e->at - 4;
}

static inline void emit_ret(struct emit *e)
{
	emit_u8(e, 0xc3);
}

/* movzx reg32, gs:[offset], of 1 or 2 bytes there */
static inline void emit_load_small_gs(struct emit *e, unsigned reg, unsigned size, u32 offset)
{
	emit_u8(e, 0x65);
	emit_rex(e, false, reg, 0, 0);
	emit_u8(e, 0x0f);
	emit_u8(e, size == 1 ? 0xb6 : 0xb7);
	emit_modrm(e, 0, reg, 4);
	emit_u8(e, 0x25);
	emit_u32(e, offset);
}

/* mov gs:[offset], value; size 8: it is sign-extended */
static inline void emit_store_imm_gs(struct emit *e, unsigned size, u32 offset, u32 value)
{
	emit_u8(e, 0x65);
	emit_rex(e, size == 8, 0, 0, 0);
	emit_u8(e, size == 1 ? 0xc6 : 0xc7);
	emit_modrm(e, 0, 0, 4);
	emit_u8(e, 0x25);
	emit_u32(e, offset);
	if (size == 1)
		emit_u8(e, value);
	else
		emit_u32(e, value);
}

/* jmp gs:[offset], or call; `extension` says which. */
static inline void emit_group5_gs(struct emit *e, unsigned extension, u32 offset)
{
	emit_u8(e, 0x65);
	emit_u8(e, OPCODE_GROUP5);
	emit_modrm(e, 0, extension, 4);
	emit_u8(e, 0x25);
	emit_u32(e, offset);
}

static inline void emit_jmp_gs(struct emit *e, u32 offset)
{
	emit_group5_gs(e, EXTENSION_JMP, offset);
}

/* A struct site must follow. */
static inline void emit_call_event(struct emit *e)
{
	emit_group5_gs(e, EXTENSION_CALL, CTX_EVENT);
}

#endif
