/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A walk past every instruction that the decoder knows. Many are met more than once.
 */
#ifndef WALK_H
#define WALK_H

#include "host/types.h"

#include <Zydis/Zydis.h>

typedef void walk_visitor(void *opaque, const ZydisDecodedInstruction *insn,
			  const ZydisDecodedOperand *operands);

/* Mode: MODE_CODE_64 and the like. */
void walk_instructions(u32 mode, walk_visitor *visit, void *opaque);

#endif
