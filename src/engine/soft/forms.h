/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The allow-list: what the translator does with each instruction that it knows.
 * What is not on it is undefined to the guest, and never executed.
 *
 * Tour 6.100: Who may pass
 */
#ifndef ENGINE_SOFT_FORMS_H
#define ENGINE_SOFT_FORMS_H

#include "engine/soft/internal.h"

#include <Zydis/Zydis.h>

/*
 * What the translator can do with an instruction, as of today. Most are of the second kind.
 *
 * Tour 6.101, 3 items: Kinds of instructions
 */
enum form_kind {
	FORM_UNKNOWN, /* #UD */
	FORM_PASS,    /* the same instruction, operands renamed */
	FORM_NOTHING, /* a hint: no code */
	FORM_TOUCH,   /* cache maintenance: the operand must be readable, that is all */
	FORM_HANDLER, /* executed by C, goes on behind it */
	FORM_LEA,
	FORM_MOV_OFFSET, /* MOV between the accumulator and an absolute address */
	FORM_BIT_STRING, /* BT and its kin with a register index and a memory operand */
	FORM_XLAT,
	FORM_ZERO, /* VZEROALL and VZEROUPPER outside 64-bit mode */
	FORM_PUSH,
	FORM_POP,
	FORM_LEAVE,
	FORM_CALL,
	FORM_RET,
	FORM_JMP,
	FORM_JCC,
	FORM_LOOP, /* LOOP, LOOPE, LOOPNE, JCXZ and its kin */
};

/* What of the processor an instruction uses: MODE_NO_* decide whether it may. */
enum form_unit { UNIT_INTEGER, UNIT_WAIT, UNIT_X87, UNIT_MMX, UNIT_SSE, UNIT_AVX, UNIT_AVX512 };

struct form {
	enum form_kind kind;
	enum form_unit unit;
	handler *handler; /* of FORM_HANDLER */
	bool last;	  /* nothing behind it belongs to this block */
};

/* A decoder for that mode (MODE_CODE), of what the guest's CPU has. */
void form_decoder(ZydisDecoder *decoder, u32 mode);

struct form form_of(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands);

#endif
