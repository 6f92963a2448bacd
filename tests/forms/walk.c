/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every instruction there is, as far as the decoder knows: see walk.h.
 *
 * Nobody wrote a list. Each opcode of each map is put before the decoder with each prefix
 * that may be part of it; what it accepts is an instruction. Operands are varied only
 * where they choose another instruction: memory and register, ModRM.reg as a part of
 * the opcode, 3DNow!'s trailing byte.
 */
#include "walk.h"

#include "engine/soft/forms.h"

#include <string.h>

/* As VEX.pp counts them. */
static const u8 mandatory[] = {0, 0x66, 0xf3, 0xf2};

#define REX_W	   0x48
#define ADDRESS_32 0x67 /* JECXZ is JRCXZ with it */

/* VEX, XOP and EVEX are laid out alike from their second or third byte on. */
struct wide {
	u8 escape; /* C4, 8F or 62 */
	u8 first_map, last_map;
};

struct traversal {
	ZydisDecoder decoder;
	walk_visitor *visit;
	void *opaque;
	u8 bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
	unsigned length;
};

static void put(struct traversal *walk, u8 byte)
{
	walk->bytes[walk->length++] = byte;
}

/* What was put, and zeroes behind it. */
static void try(struct traversal *walk)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

	memset(walk->bytes + walk->length, 0, sizeof(walk->bytes) - walk->length);
	if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&walk->decoder, walk->bytes, sizeof(walk->bytes),
						&insn, operands)))
		walk->visit(walk->opaque, &insn, operands);
}

/* ModRM and a SIB byte behind the opcode. Whether there is a displacement makes no difference. */
static void try_modrm(struct traversal *walk, const u8 *rm, unsigned rms)
{
	unsigned length = walk->length;

	for (unsigned i = 0; i < 8 * rms; i++) {
		walk->length = length;
		put(walk, rm[i / 8] | i % 8 << 3);
		put(walk, 0x08); /* [rax + rcx], or [rax + xmm1] */
		try(walk);
	}
	walk->length = length;
}

static void walk_legacy(struct traversal *walk)
{
	static const u8 escapes[][2] = {{0}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}};
	/* Memory; and registers, which may be part of the opcode. */
	static const u8 rm[] = {0x00, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7};

	for (unsigned bits = 0; bits < 16; bits++)
		for (unsigned map = 0; map < ARRAY_SIZE(escapes); map++)
			for (unsigned opcode = 0; opcode < 256; opcode++) {
				walk->length = 0;
				if (bits & 8)
					put(walk, ADDRESS_32);
				if (mandatory[bits & 3])
					put(walk, mandatory[bits & 3]);
				if (bits & 4)
					put(walk, REX_W);
				for (unsigned i = 0; i < 2 && escapes[map][i]; i++)
					put(walk, escapes[map][i]);
				put(walk, opcode);
				try_modrm(walk, rm, ARRAY_SIZE(rm));
			}
}

/* 3DNow! has its opcode at the end. */
static void walk_3dnow(struct traversal *walk)
{
	for (unsigned opcode = 0; opcode < 256; opcode++) {
		walk->length = 0;
		put(walk, 0x0f);
		put(walk, 0x0f);
		put(walk, 0xc0);
		put(walk, opcode);
		try(walk);
	}
}

/* R, X, B and vvvv are upside down: all ones is none of them. */
#define NO_RXB	0xe0
#define NO_VVVV (15 << 3)
#define ONE_REG (14 << 3)

/* One opcode of VEX, EVEX or XOP; `bits`: W, length, prefix, whether there is a third operand. */
static void put_wide(struct traversal *walk, u8 escape, unsigned map, unsigned opcode,
		     unsigned bits)
{
	/* Memory, memory with an index, a register. */
	static const u8 rm[] = {0x00, 0x04, 0xc0};
	unsigned w = bits & 1, pp = bits >> 1 & 3, vvvv = bits & 8 ? NO_VVVV : ONE_REG,
		 length = bits >> 4 & 3, mask = bits >> 6 & 1;

	walk->length = 0;
	put(walk, escape);
	if (escape == 0x62) {
		put(walk, NO_RXB | 0x10 | map);
		put(walk, w << 7 | vvvv | 4 | pp);
		put(walk, length << 5 | 8 | mask);
	} else {
		put(walk, NO_RXB | map);
		put(walk, w << 7 | vvvv | length << 2 | pp);
	}
	put(walk, opcode);
	try_modrm(walk, rm, ARRAY_SIZE(rm));
}

static void walk_wide(struct traversal *walk, const struct wide *wide)
{
	unsigned all = wide->escape == 0x62 ? 128 : 32;

	for (unsigned map = wide->first_map; map <= wide->last_map; map++)
		for (unsigned opcode = 0; opcode < 256; opcode++)
			for (unsigned bits = 0; bits < all; bits++)
				put_wide(walk, wide->escape, map, opcode, bits);
}

void walk_instructions(u32 mode, walk_visitor *visit, void *opaque)
{
	static const struct wide wides[] = {{0xc4, 1, 7}, {0x62, 1, 7}, {0x8f, 8, 10}};
	struct traversal walk = {.visit = visit, .opaque = opaque};

	form_decoder(&walk.decoder, mode);
	walk_legacy(&walk);
	walk_3dnow(&walk);
	for (unsigned i = 0; i < ARRAY_SIZE(wides); i++)
		walk_wide(&walk, &wides[i]);
}
