/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * build/forms: what the soft engine makes of each instruction there is.
 *
 *   forms               every mnemonic, a line each: for each set that it is in (AVX and
 *                       AVX-512 have most in common) what becomes of it
 *   forms --undefined   the sets of which anything is undefined to a guest, a line each:
 *                       its name, whether that is some or all of it, and what
 *
 * --32: of 32-bit code instead of 64-bit code.
 *
 * The answers are the engine's own (form_of()), not a list beside it. docs/forms.md gives
 * the reasons.
 */
#include "walk.h"

#include "engine/soft/forms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum verdict { PASSES, REWRITTEN, IGNORED, HANDLED, UNDEFINED, VERDICTS };

static const char *const verdict_names[VERDICTS] = {
	[PASSES] = "passes",	   /* the CPU runs it, operands renamed */
	[REWRITTEN] = "rewritten", /* translated by knowing what it does */
	[IGNORED] = "ignored",	   /* a hint: no code */
	[HANDLED] = "handled",	   /* C does it */
	[UNDEFINED] = "undefined", /* #UD */
};

enum { MNEMONICS = ZYDIS_MNEMONIC_MAX_VALUE + 1, SETS = ZYDIS_ISA_SET_MAX_VALUE + 1 };

/* Bits: 1 << verdict. One mnemonic may have several: MOV is most of them. */
struct answers {
	u8 of[MNEMONICS][SETS];
};

static enum verdict verdict_of(const struct form *form)
{
	switch (form->kind) {
	case FORM_PASS:
		return PASSES;
	case FORM_NOTHING:
		return IGNORED;
	case FORM_HANDLER:
		return HANDLED;
	case FORM_UNKNOWN:
		return UNDEFINED;
	default:
		return REWRITTEN;
	}
}

static void ask(void *opaque, const ZydisDecodedInstruction *insn,
		const ZydisDecodedOperand *operands)
{
	struct answers *answers = opaque;
	struct form form = form_of(insn, operands);

	answers->of[insn->mnemonic][insn->meta.isa_set] |= 1u << verdict_of(&form);
}

static void print_mnemonic(const struct answers *answers, unsigned mnemonic)
{
	const char *between = "";

	for (unsigned set = 0; set < SETS; set++) {
		if (!answers->of[mnemonic][set])
			continue;
		if (!*between)
			printf("%-18s ", ZydisMnemonicGetString(mnemonic));
		printf("%s%s", between, ZydisISASetGetString(set));
		between = "; ";
		for (unsigned verdict = 0; verdict < VERDICTS; verdict++)
			if (answers->of[mnemonic][set] & 1u << verdict)
				printf(" %s", verdict_names[verdict]);
	}
	if (*between)
		putchar('\n');
}

static void print_undefined(const struct answers *answers, unsigned set)
{
	unsigned undefined = 0, other = 0;

	for (unsigned mnemonic = 0; mnemonic < MNEMONICS; mnemonic++) {
		undefined += answers->of[mnemonic][set] >> UNDEFINED & 1;
		other += !!(answers->of[mnemonic][set] & ~(1u << UNDEFINED));
	}
	if (!undefined)
		return;
	printf("%-18s %s", ZydisISASetGetString(set), other ? "some:" : "all:");
	for (unsigned mnemonic = 0; mnemonic < MNEMONICS; mnemonic++)
		if (answers->of[mnemonic][set] >> UNDEFINED & 1)
			printf(" %s", ZydisMnemonicGetString(mnemonic));
	putchar('\n');
}

int main(int argc, char **argv)
{
	static struct answers answers;
	bool undefined = false;
	u32 mode = MODE_CODE_64;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--undefined")) {
			undefined = true;
		} else if (!strcmp(argv[i], "--32")) {
			mode = MODE_CODE_32;
		} else {
			fprintf(stderr, "usage: forms [--32] [--undefined]\n");
			return 1;
		}
	}
	walk_instructions(mode, ask, &answers);
	for (unsigned mnemonic = 0; !undefined && mnemonic < MNEMONICS; mnemonic++)
		print_mnemonic(&answers, mnemonic);
	for (unsigned set = 0; undefined && set < SETS; set++)
		print_undefined(&answers, set);
	return 0;
}
