/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The soft engine's allow-list (src/engine/soft/forms.c): answers that are known
 * beforehand, for instructions that are there, that are not, and that look like
 * others. build/forms asks for all of them. And whose masks keep them from faulting, of those
 * that few machines have: the others are compared with the silicon.
 */
#include "engine/soft/translation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct question {
	const char *name;
	enum form_kind answer;
	u8 bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
};

static struct form ask(const struct question *question, u32 mode)
{
	ZydisDecoder decoder;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

	form_decoder(&decoder, mode);
	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, question->bytes, sizeof(question->bytes),
					       &insn, operands)))
		fail_msg("%s is nothing to the decoder", question->name);
	return form_of(&insn, operands);
}

static void expect(const struct question *questions, unsigned count, u32 mode)
{
	for (unsigned i = 0; i < count; i++) {
		struct form form = ask(&questions[i], mode);

		if (form.kind != questions[i].answer)
			fail_msg("%s: %d, not %d", questions[i].name, form.kind,
				 questions[i].answer);
		assert_int_equal(form.kind == FORM_HANDLER, form.handler != NULL);
	}
}

static void test_what_is_there(void **state)
{
	static const struct question questions[] = {
		{"add eax, ecx", FORM_PASS, {0x01, 0xc8}},
		{"lock xadd [rax], rcx", FORM_PASS, {0xf0, 0x48, 0x0f, 0xc1, 0x08}},
		{"fadd st, st(1)", FORM_PASS, {0xd8, 0xc1}},
		{"movsd xmm0, xmm1", FORM_PASS, {0xf2, 0x0f, 0x10, 0xc1}},
		{"vaddps ymm0, ymm1, ymm2", FORM_PASS, {0xc5, 0xf4, 0x58, 0xc2}},
		{"movsd", FORM_HANDLER, {0xa5}},
		{"cpuid", FORM_HANDLER, {0x0f, 0xa2}},
		{"invpcid rax, [rax]", FORM_HANDLER, {0x66, 0x0f, 0x38, 0x82, 0x00}},
		{"rdpkru", FORM_HANDLER, {0x0f, 0x01, 0xee}},
		{"mov cr3, rax", FORM_HANDLER, {0x0f, 0x22, 0xd8}},
		{"mov ds, eax", FORM_HANDLER, {0x8e, 0xd8}},
		{"vpgatherdd xmm0, [rax + xmm1], xmm2",
		 FORM_HANDLER,
		 {0xc4, 0xe2, 0x69, 0x90, 0x04, 0x08}},
		{"vaddps zmm0, zmm1, zmm2", FORM_PASS, {0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2}},
		{"vaddps ymm16, ymm1, ymm2", FORM_PASS, {0x62, 0xe1, 0x74, 0x28, 0x58, 0xc2}},
		{"kmovw k0, eax", FORM_PASS, {0xc5, 0xf8, 0x92, 0xc0}},
		{"vaesenc ymm0, ymm0, ymm0 (VAES)", FORM_PASS, {0xc4, 0xe2, 0x7d, 0xdc, 0xc0}},
		{"vpscatterdd [rax + zmm1] {k1}, zmm0",
		 FORM_HANDLER,
		 {0x62, 0xf2, 0x7d, 0x49, 0xa0, 0x04, 0x08}},
		{"xsaves [rax]", FORM_HANDLER, {0x0f, 0xc7, 0x28}},
		{"vmcall", FORM_HANDLER, {0x0f, 0x01, 0xc1}},
		{"call rax", FORM_CALL, {0xff, 0xd0}},
		{"call far [rax]", FORM_HANDLER, {0xff, 0x18}},
		{"bt [rax], ecx", FORM_BIT_STRING, {0x0f, 0xa3, 0x08}},
		{"bt eax, ecx", FORM_PASS, {0x0f, 0xa3, 0xc8}},
		{"mov al, moffs", FORM_MOV_OFFSET, {0xa0}},
	};

	(void)state;
	expect(questions, ARRAY_SIZE(questions), MODE_CODE_64);
}

static void test_what_is_not(void **state)
{
	static const struct question questions[] = {
		{"ud2", FORM_UNKNOWN, {0x0f, 0x0b}},
		{"vexp2ps zmm0, zmm1 (Xeon Phi)",
		 FORM_UNKNOWN,
		 {0x62, 0xf2, 0x7d, 0x48, 0xc8, 0xc1}},
		{"xbegin", FORM_UNKNOWN, {0xc7, 0xf8}},
		{"xend", FORM_UNKNOWN, {0x0f, 0x01, 0xd5}},
		{"vmlaunch", FORM_UNKNOWN, {0x0f, 0x01, 0xc2}},
		{"vmrun", FORM_UNKNOWN, {0x0f, 0x01, 0xd8}},
		{"incsspq rax", FORM_UNKNOWN, {0xf3, 0x48, 0x0f, 0xae, 0xe8}},
		{"mwait", FORM_UNKNOWN, {0x0f, 0x01, 0xc9}},
		{"tilezero tmm0", FORM_UNKNOWN, {0xc4, 0xe2, 0x7b, 0x49, 0xc0}},
		{"pfadd mm0, mm0", FORM_UNKNOWN, {0x0f, 0x0f, 0xc0, 0x9e}},
		/* Names that are on the list, of instructions that are not. */
		{"bextr eax, eax, imm (TBM)",
		 FORM_UNKNOWN,
		 {0x8f, 0xea, 0x78, 0x10, 0xc0, 0, 0, 0, 0}},
		{"popcnt eax, eax (Knights Corner)", FORM_UNKNOWN, {0xc4, 0xe1, 0x7a, 0xb8, 0xc0}},
	};

	(void)state;
	expect(questions, ARRAY_SIZE(questions), MODE_CODE_64);
}

/* To a CPU that does not have what they have become. */
static void test_hints_stay_hints(void **state)
{
	static const struct question questions[] = {
		{"rdsspq rax", FORM_NOTHING, {0xf3, 0x48, 0x0f, 0x1e, 0xc8}},
		{"endbr64", FORM_NOTHING, {0xf3, 0x0f, 0x1e, 0xfa}},
		{"cldemote [rax]", FORM_NOTHING, {0x0f, 0x1c, 0x00}},
		{"bndmov bnd0, bnd1", FORM_NOTHING, {0x66, 0x0f, 0x1a, 0xc1}},
		{"bndmk bnd0, [rax]", FORM_NOTHING, {0xf3, 0x0f, 0x1b, 0x00}},
		{"nop [rax]", FORM_NOTHING, {0x0f, 0x1f, 0x00}},
		{"prefetchw [rax]", FORM_NOTHING, {0x0f, 0x0d, 0x08}},
		{"wbnoinvd", FORM_HANDLER, {0xf3, 0x0f, 0x09}},
	};

	(void)state;
	expect(questions, ARRAY_SIZE(questions), MODE_CODE_64);
}

static void test_modes(void **state)
{
	/* INC EAX of 32-bit code is a prefix in 64-bit code. */
	static const struct question inc = {"inc eax", FORM_PASS, {0x40}};
	static const struct question rex = {"rex add al, al", FORM_PASS, {0x40, 0x00, 0xc0}};

	(void)state;
	expect(&inc, 1, MODE_CODE_32);
	expect(&inc, 1, MODE_CODE_16);
	expect(&rex, 1, MODE_CODE_64);
}

/* Intel SDM volume 2 says it with each: does the access heed the mask, and in what way? */
static void test_masks(void **state)
{
	static const struct {
		const char *name;
		bool heeds, whole;
		u8 bits, size;
		u8 bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
	} questions[] = {
		{"vpaddd, unmasked", false, false, 0, 0, {0x62, 0xf1, 0x75, 0x48, 0xfe, 0x00}},
		{"vpaddd", true, false, 16, 4, {0x62, 0xf1, 0x75, 0x49, 0xfe, 0x00}},
		{"vextracti32x4", true, true, 4, 4, {0x62, 0xf3, 0x7d, 0x49, 0x39, 0x00, 0x01}},
		{"vgf2p8mulb", true, false, 64, 1, {0x62, 0xf2, 0x75, 0x49, 0xcf, 0x00}},
		{"vgf2p8affineqb", false, false, 0, 0, {0x62, 0xf3, 0xf5, 0x49, 0xce, 0x00, 0x00}},
		{"vgf2p8affineinvqb",
		 false,
		 false,
		 0,
		 0,
		 {0x62, 0xf3, 0xf5, 0x49, 0xcf, 0x00, 0x00}},
		{"vpmultishiftqb", false, false, 0, 0, {0x62, 0xf2, 0xf5, 0x49, 0x83, 0x00}},
		{"vdpbf16ps", true, false, 16, 4, {0x62, 0xf2, 0x76, 0x49, 0x52, 0x00}},
		{"vcvtne2ps2bf16", false, false, 0, 0, {0x62, 0xf2, 0x77, 0x49, 0x72, 0x00}},
	};
	static struct translation t;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(questions); i++) {
		ZydisDecoder decoder;
		const ZydisDecodedOperand *memory = t.op;
		struct masked masked;
		u64 arg;

		form_decoder(&decoder, MODE_CODE_64);
		assert_true(ZYAN_SUCCESS(ZydisDecoderDecodeFull(
			&decoder, questions[i].bytes, sizeof(questions[i].bytes), &t.zi, t.op)));
		while (memory->type != ZYDIS_OPERAND_TYPE_MEMORY)
			memory++;
		arg = evex_masked(&t, memory);
		__builtin_memcpy(&masked, &arg, sizeof(masked));
		if (masked.is != questions[i].heeds || masked.whole != questions[i].whole ||
		    masked.bits != questions[i].bits || masked.size != questions[i].size)
			fail_msg("%s: %d, %d, %u bits, %u bytes", questions[i].name, masked.is,
				 masked.whole, masked.bits, masked.size);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_there),
		cmocka_unit_test(test_what_is_not),
		cmocka_unit_test(test_hints_stay_hints),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_masks),
	};

	return cmocka_run_group_tests_name("soft_forms", tests, NULL, NULL);
}
