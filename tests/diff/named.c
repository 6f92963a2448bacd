/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sequences of named.inc as bytes, which the assembler makes of them here, where nobody
 * runs them; generate.c puts them between registers and memory of chance, main.c counts.
 */
#include "diff.h"

#define ASSEMBLE(id, code, instructions)                                                           \
	asm(".pushsection .rodata\n"                                                               \
	    "named_" #id ":\n"                                                                     \
	    ".intel_syntax noprefix\n"                                                             \
	    "" code "\n"                                                                           \
	    "" instructions "\n"                                                                   \
	    ".code64\n"                                                                            \
	    ".att_syntax prefix\n"                                                                 \
	    "named_" #id "_end:\n"                                                                 \
	    ".popsection");                                                                        \
	extern const u8 named_##id[] __attribute__((visibility("hidden"))),                        \
		named_##id##_end[] __attribute__((visibility("hidden")));
#define NAMED(id, goes_wrong, instructions)   ASSEMBLE(id, ".code64", instructions)
#define NAMED32(id, goes_wrong, instructions) ASSEMBLE(id, ".code32", instructions)
#include "named.inc"
#undef NAMED
#undef NAMED32

const struct named named[] = {
#define NAMED(id, goes_wrong, instructions)   {#id, goes_wrong, named_##id, named_##id##_end, false},
#define NAMED32(id, goes_wrong, instructions) {#id, goes_wrong, named_##id, named_##id##_end, true},
#include "named.inc"
#undef NAMED
#undef NAMED32
};

const unsigned named_count = ARRAY_SIZE(named);
