/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which instructions there are.
 *
 * Nobody wrote a list. Every opcode of every map is put before the decoder with each
 * prefix that may be part of it, each ModRM.reg, memory and registers; what it accepts
 * is a form. So a form is finer than a mnemonic, and nothing is left out because
 * nobody thought of it. XOP and 3DNow! are: the engine offers none of them.
 */
#include "diff.h"

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>

static const u8 mandatory[] = {0, 0x66, 0xf3, 0xf2}; /* in the order of VEX.pp */

/* CPUID's leaf 7, asked once: that takes its time on a CPU that is virtual. */
struct features {
	u32 a, b, c, d, a1; /* the last is of subleaf 1 */
};

static const struct features *features(void)
{
	static struct features found;
	static bool asked;
	u32 b, c, d;

	if (!asked) {
		__get_cpuid_count(7, 0, &found.a, &found.b, &found.c, &found.d);
		if (found.a)
			__get_cpuid_count(7, 1, &found.a1, &b, &c, &d);
		asked = true;
	}
	return &found;
}

/* Of a kernel that has not enabled its state the compiler's own question knows. */
static bool host_has_avx512(void)
{
	/* Without these there are only Xeon Phis. */
	const u32 all = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512CD | bit_AVX512VL;

	return __builtin_cpu_supports("avx512f") && (features()->b & all) == all;
}

static bool begins_with(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

/* Sets that are younger than others that the engine needs: there where this CPU has them. */
static bool young_set(ZydisISASet set)
{
	const char *name = ZydisISASetGetString(set);
	const struct features *has = features();
	const struct {
		const char *prefix;
		bool there;
	} sets[] = {
		{"SHA", has->b & 1u << 29},
		{"GFNI", has->c & 1u << 8},
		{"VAES", has->c & 1u << 9},
		{"VPCLMULQDQ", has->c & 1u << 10},
		{"AVX_GFNI", has->c & 1u << 8},
		{"AVX_VNNI", has->a1 & 1u << 4},
		{"AVX512_BF16", has->a1 & 1u << 5},
		{"AVX512_BITALG", has->c & 1u << 12},
		{"AVX512_FP16", has->d & 1u << 23},
		{"AVX512_GFNI", has->c & 1u << 8},
		{"AVX512_IFMA", has->b & 1u << 21},
		{"AVX512_VAES", has->c & 1u << 9},
		{"AVX512_VBMI2", has->c & 1u << 6},
		{"AVX512_VBMI", has->c & 1u << 1},
		{"AVX512_VNNI", has->c & 1u << 11},
		{"AVX512_VP2INTERSECT", has->d & 1u << 8},
		{"AVX512_VPCLMULQDQ", has->c & 1u << 10},
		{"AVX512_VPOPCNTDQ", has->c & 1u << 14},
		{"AVX512F_", true},
		{"AVX512BW_", true},
		{"AVX512CD_", true},
		{"AVX512DQ_", true},
	};

	if (begins_with(name, "AVX512") && !host_has_avx512())
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(sets); i++)
		if (begins_with(name, sets[i].prefix))
			return sets[i].there;
	return false;
}

/* Sets that the engine may offer; the rest gives #UD or belongs to the kernel. */
static bool user_set(ZydisISASet set)
{
	switch (set) {
	case ZYDIS_ISA_SET_ADOX_ADCX:
	case ZYDIS_ISA_SET_AES:
	case ZYDIS_ISA_SET_AVX:
	case ZYDIS_ISA_SET_AVX2:
	case ZYDIS_ISA_SET_AVX2GATHER:
	case ZYDIS_ISA_SET_AVXAES:
	case ZYDIS_ISA_SET_BMI1:
	case ZYDIS_ISA_SET_BMI2:
	case ZYDIS_ISA_SET_CLFLUSHOPT:
	case ZYDIS_ISA_SET_CLFSH:
	case ZYDIS_ISA_SET_CLWB:
	case ZYDIS_ISA_SET_CMOV:
	case ZYDIS_ISA_SET_CMPXCHG16B:
	case ZYDIS_ISA_SET_F16C:
	case ZYDIS_ISA_SET_FAT_NOP:
	case ZYDIS_ISA_SET_FCMOV:
	case ZYDIS_ISA_SET_FMA:
	case ZYDIS_ISA_SET_FXSAVE:
	case ZYDIS_ISA_SET_FXSAVE64:
	case ZYDIS_ISA_SET_I186:
	case ZYDIS_ISA_SET_I386:
	case ZYDIS_ISA_SET_I486:
	case ZYDIS_ISA_SET_I486REAL:
	case ZYDIS_ISA_SET_I86:
	case ZYDIS_ISA_SET_LAHF:
	case ZYDIS_ISA_SET_LONGMODE:
	case ZYDIS_ISA_SET_LZCNT:
	case ZYDIS_ISA_SET_MOVBE:
	case ZYDIS_ISA_SET_PAUSE:
	case ZYDIS_ISA_SET_PCLMULQDQ:
	case ZYDIS_ISA_SET_PENTIUMMMX:
	case ZYDIS_ISA_SET_PENTIUMREAL:
	case ZYDIS_ISA_SET_POPCNT:
	case ZYDIS_ISA_SET_PPRO:
	case ZYDIS_ISA_SET_PREFETCH_NOP:
	case ZYDIS_ISA_SET_RDWRFSGS:
	case ZYDIS_ISA_SET_SSE:
	case ZYDIS_ISA_SET_SSE2:
	case ZYDIS_ISA_SET_SSE2MMX:
	case ZYDIS_ISA_SET_SSE3:
	case ZYDIS_ISA_SET_SSE3X87:
	case ZYDIS_ISA_SET_SSE4:
	case ZYDIS_ISA_SET_SSE42:
	case ZYDIS_ISA_SET_SSEMXCSR:
	case ZYDIS_ISA_SET_SSE_PREFETCH:
	case ZYDIS_ISA_SET_SSSE3:
	case ZYDIS_ISA_SET_SSSE3MMX:
	case ZYDIS_ISA_SET_X87:
	case ZYDIS_ISA_SET_XSAVE:
	case ZYDIS_ISA_SET_XSAVEC:
	case ZYDIS_ISA_SET_XSAVEOPT:
		return true;
	default:
		return young_set(set);
	}
}

/*
 * They #GP in user mode, whatever their operands: so they are safe to try. System calls,
 * interrupts and far transfers are not.
 */
static bool privileged(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_HLT:
	case ZYDIS_MNEMONIC_CLI:
	case ZYDIS_MNEMONIC_STI:
	case ZYDIS_MNEMONIC_IN:
	case ZYDIS_MNEMONIC_OUT:
	case ZYDIS_MNEMONIC_INSB:
	case ZYDIS_MNEMONIC_INSW:
	case ZYDIS_MNEMONIC_INSD:
	case ZYDIS_MNEMONIC_OUTSB:
	case ZYDIS_MNEMONIC_OUTSW:
	case ZYDIS_MNEMONIC_OUTSD:
	case ZYDIS_MNEMONIC_CLTS:
	case ZYDIS_MNEMONIC_INVD:
	case ZYDIS_MNEMONIC_WBINVD:
	case ZYDIS_MNEMONIC_INVLPG:
	case ZYDIS_MNEMONIC_RDMSR:
	case ZYDIS_MNEMONIC_WRMSR:
	case ZYDIS_MNEMONIC_LGDT:
	case ZYDIS_MNEMONIC_LIDT:
	case ZYDIS_MNEMONIC_LLDT:
	case ZYDIS_MNEMONIC_LTR:
	case ZYDIS_MNEMONIC_LMSW:
	case ZYDIS_MNEMONIC_SWAPGS:
	case ZYDIS_MNEMONIC_XSAVES:
	case ZYDIS_MNEMONIC_XSAVES64:
	case ZYDIS_MNEMONIC_XRSTORS:
	case ZYDIS_MNEMONIC_XRSTORS64:
	case ZYDIS_MNEMONIC_XSETBV:
		return true;
	case ZYDIS_MNEMONIC_MOV:
		for (unsigned i = 0; i < 2; i++) {
			ZydisRegisterClass class;

			if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
				continue;
			class = ZydisRegisterGetClass(operands[i].reg.value);
			if (class == ZYDIS_REGCLASS_CONTROL)
				return true;
		}
		return false;
	default:
		return false;
	}
}

/* What two CPUs need not agree on, or what would leave the sequence's world. */
static bool unfit(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	if (insn->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return true;
	if (insn->attributes & (ZYDIS_ATTRIB_HAS_XACQUIRE | ZYDIS_ATTRIB_HAS_XRELEASE))
		return true;
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RSM:
	case ZYDIS_MNEMONIC_INT:
	case ZYDIS_MNEMONIC_INT1:
	case ZYDIS_MNEMONIC_INTO:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_LSS:
	case ZYDIS_MNEMONIC_LFS:
	case ZYDIS_MNEMONIC_LGS:
	case ZYDIS_MNEMONIC_SYSCALL:
	case ZYDIS_MNEMONIC_SYSRET:
	case ZYDIS_MNEMONIC_SYSENTER:
	case ZYDIS_MNEMONIC_SYSEXIT:
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_LES:
	case ZYDIS_MNEMONIC_LDS:
	case ZYDIS_MNEMONIC_POPFQ: /* may set TF: generate.c takes care */
	case ZYDIS_MNEMONIC_SMSW:
	case ZYDIS_MNEMONIC_XGETBV: /* the host's has MPX, perhaps */
		return true;
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_POP:
		return operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		       ZydisRegisterGetClass(operands[0].reg.value) == ZYDIS_REGCLASS_SEGMENT;
	default:
		return false;
	}
}

static bool debug_register(const ZydisDecodedOperand *operands)
{
	for (unsigned i = 0; i < 2; i++)
		if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(operands[i].reg.value) == ZYDIS_REGCLASS_DEBUG)
			return true;
	return false;
}

bool form_is_xsave(const ZydisDecodedInstruction *insn)
{
	switch (insn->meta.isa_set) {
	case ZYDIS_ISA_SET_XSAVE:
	case ZYDIS_ISA_SET_XSAVEC:
	case ZYDIS_ISA_SET_XSAVEOPT:
		return true;
	default:
		return false;
	}
}

bool form_is_xrstor(const ZydisDecodedInstruction *insn)
{
	return insn->mnemonic == ZYDIS_MNEMONIC_XRSTOR || insn->mnemonic == ZYDIS_MNEMONIC_XRSTOR64;
}

enum form_class form_classify(const ZydisDecodedInstruction *insn,
			      const ZydisDecodedOperand *operands)
{
	if (privileged(insn, operands))
		return FORM_PRIVILEGED;
	if (!user_set(insn->meta.isa_set) || unfit(insn, operands) ||
	    (insn->mnemonic == ZYDIS_MNEMONIC_MOV && debug_register(operands)))
		return FORM_SYSTEM;
	if (begins_with(ZydisISASetGetString(insn->meta.isa_set), "AVX512"))
		return FORM_EVEX;
	if (insn->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		return FORM_VEX;
	switch (insn->meta.category) {
	case ZYDIS_CATEGORY_STRINGOP:
		return FORM_STRING;
	case ZYDIS_CATEGORY_PUSH:
	case ZYDIS_CATEGORY_POP:
		return FORM_STACK;
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
		return FORM_BRANCH;
	case ZYDIS_CATEGORY_X87_ALU:
	case ZYDIS_CATEGORY_FCMOV:
		return FORM_X87;
	default:
		break;
	}
	if (insn->mnemonic == ZYDIS_MNEMONIC_ENTER || insn->mnemonic == ZYDIS_MNEMONIC_LEAVE)
		return FORM_STACK;
	for (unsigned i = 0; i < insn->operand_count; i++)
		if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
			switch (ZydisRegisterGetClass(operands[i].reg.value)) {
			case ZYDIS_REGCLASS_MMX:
				return FORM_MMX;
			case ZYDIS_REGCLASS_XMM:
				return FORM_SSE;
			case ZYDIS_REGCLASS_X87:
				return FORM_X87;
			default:
				break;
			}
	return FORM_INTEGER;
}

static bool prefix_byte(u8 opcode, bool compat)
{
	switch (opcode) {
	case 0x0f: /* escape */
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64:
	case 0x65:
	case 0x66:
	case 0x67:
	case 0xf0:
	case 0xf2:
	case 0xf3:
	case 0xc4: /* VEX */
	case 0xc5:
	case 0x62: /* EVEX */
		return true;
	default:
		return !compat && opcode >= 0x40 && opcode <= 0x4f; /* REX */
	}
}

/* The bytes of a form, with nothing chosen that is free. */
static unsigned probe_bytes(const struct form *form, u8 *bytes)
{
	static const u8 escapes[4][2] = {{0}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}};
	u8 *at = bytes;
	u8 rm = form->rm == FORM_ANY ? 3 : form->rm; /* rbx: no SIB, no displacement */
	u8 reg = form->reg == FORM_ANY ? 0 : form->reg;
	unsigned pp = 0;

	while (mandatory[pp] != form->prefix)
		pp++;
	if (form->evex) {
		*at++ = 0x62;
		*at++ = 0xf0 | form->map;
		*at++ = (form->wide ? 0x80 : 0) | (form->vvvv ? 10 : 15) << 3 | 4 | pp;
		*at++ = form->length << 5 | form->b << 4 | 8 | form->vsib;
	} else if (form->vex) {
		*at++ = 0xc4;
		*at++ = 0xe0 | form->map;
		*at++ = (form->wide ? 0x80 : 0) | (form->vvvv ? 10 : 15) << 3 | form->length << 2 |
			pp;
	} else {
		if (form->prefix)
			*at++ = form->prefix;
		if (form->wide)
			*at++ = 0x48;
		for (unsigned i = 0; i < 2 && escapes[form->map][i]; i++)
			*at++ = escapes[form->map][i];
	}
	*at++ = form->opcode;
	if (form->memory) {
		*at++ = (form->scale ? 0x40 : 0) | reg << 3 | (form->vsib ? 4 : 3);
		if (form->vsib)
			*at++ = 2 << 3 | 3; /* [rbx + xmm2] */
		if (form->scale)
			*at++ = form->scale;
	} else {
		*at++ = 0xc0 | reg << 3 | rm;
	}
	memset(at, 0, 8);
	return at + 8 - bytes;
}

/* By what a displacement of 8 bits is multiplied, and how large the operand is. */
static void measure(const struct forms *forms, struct form *form)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	u8 bytes[24];

	form->scale = 1;
	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&forms->decoder, bytes, probe_bytes(form, bytes),
					       &insn, operands)))
		abort();
	for (unsigned i = 0; i < insn.operand_count; i++)
		if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY) {
			form->scale = operands[i].mem.disp.value;
			form->size = operands[i].size / 8;
		}
}

static bool has_encoding(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands,
			 ZydisOperandEncoding encoding)
{
	for (unsigned i = 0; i < insn->operand_count; i++)
		if (operands[i].encoding == encoding)
			return true;
	return false;
}

/* Does a prefix stand there that nobody asked for? */
static bool ignored_prefix(const ZydisDecodedInstruction *insn)
{
	const u64 meant = ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;

	for (unsigned i = 0; i < insn->raw.prefix_count; i++) {
		u8 value = insn->raw.prefixes[i].value;

		if ((value == 0xf2 || value == 0xf3) && !(insn->attributes & meant) &&
		    insn->raw.prefixes[i].type != ZYDIS_PREFIX_TYPE_MANDATORY)
			return true;
	}
	return false;
}

static void forms_add(struct forms *forms, const struct form *form)
{
	if (!(forms->count & (forms->count - 1))) { /* full: twice as many */
		unsigned room = forms->count ? 2 * forms->count : 1;

		forms->all = realloc(forms->all, room * sizeof(*forms->all));
		if (!forms->all)
			abort();
	}
	forms->all[forms->count++] = *form;
}

/*
 * Try one. `form` says everything but reg and rm; *more is cleared where no other reg or
 * rm makes a difference.
 */
static void try_form(struct forms *forms, struct form form, u8 reg, u8 rm, bool *more_reg,
		     bool *more_rm)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	u8 bytes[24];

	form.reg = reg;
	form.rm = rm;
	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&forms->decoder, bytes, probe_bytes(&form, bytes),
					       &insn, operands)))
		return;
	form.modrm = insn.attributes & ZYDIS_ATTRIB_HAS_MODRM;
	form.lockable = insn.attributes & ZYDIS_ATTRIB_ACCEPTS_LOCK;
	form.mnemonic = insn.mnemonic;
	form.odd = ignored_prefix(&insn);
	form.class = form_classify(&insn, operands);
	form.xsave = form_is_xsave(&insn);
	if (form.evex && form.memory)
		measure(forms, &form);
	if (!form.modrm) {
		*more_reg = *more_rm = false;
		if (!form.memory)
			return; /* the same again */
	}
	if (!form.modrm || has_encoding(&insn, operands, ZYDIS_OPERAND_ENCODING_MODRM_REG)) {
		*more_reg = false;
		form.reg = FORM_ANY;
	}
	if (!form.modrm || form.memory ||
	    has_encoding(&insn, operands, ZYDIS_OPERAND_ENCODING_MODRM_RM)) {
		*more_rm = false;
		form.rm = FORM_ANY;
	}
	forms_add(forms, &form);
}

/* In EVEX only these have a part of their opcode in ModRM: shifts by an immediate. */
static bool has_groups(const struct form *form)
{
	return !form->evex || (form->map == 1 && form->opcode >= 0x71 && form->opcode <= 0x73);
}

/* All of one opcode with these prefixes. */
static void try_opcode(struct forms *forms, struct form form)
{
	const unsigned regs = has_groups(&form) ? 8 : 1;

	for (unsigned memory = 0; memory < 2; memory++) {
		bool more_reg = true;

		form.memory = !memory;
		for (unsigned reg = 0; reg < regs && more_reg; reg++) {
			bool more_rm = true;
			unsigned before = forms->count;

			for (unsigned rm = 0; rm < (form.memory || form.evex ? 1 : 8) && more_rm;
			     rm++)
				try_form(forms, form, reg, rm, &more_reg, &more_rm);
			if ((form.vex || form.evex) && form.memory && forms->count == before) {
				form.vsib = true;
				try_form(forms, form, reg, 0, &more_reg, &more_rm);
				form.vsib = false;
			}
		}
	}
}

static void find_legacy(struct forms *forms)
{
	for (unsigned map = 0; map < 4; map++)
		for (unsigned opcode = 0; opcode < 256; opcode++) {
			if (map == 0 && prefix_byte(opcode, forms->compat))
				continue;
			if (map == 1 && (opcode == 0x38 || opcode == 0x3a || opcode == 0x0f))
				continue;
			for (unsigned prefix = 0; prefix < 4; prefix++)
				for (unsigned wide = 0; wide < (forms->compat ? 1 : 2); wide++)
					try_opcode(forms, (struct form){.map = map,
									.opcode = opcode,
									.prefix = mandatory[prefix],
									.wide = wide});
		}
}

/* With a register in VVVV; without, if there is no such instruction. */
static void try_vvvv(struct forms *forms, struct form form)
{
	unsigned before = forms->count;

	form.vvvv = true;
	try_opcode(forms, form);
	if (forms->count > before)
		return;
	form.vvvv = false;
	try_opcode(forms, form);
}

static void find_vex(struct forms *forms)
{
	for (unsigned map = 1; map < 4; map++)
		for (unsigned opcode = 0; opcode < 256; opcode++)
			for (unsigned bits = 0; bits < 16; bits++) {
				struct form form = {.vex = true,
						    .map = map,
						    .opcode = opcode,
						    .prefix = mandatory[bits & 3],
						    .wide = bits & 4,
						    .length = bits >> 3};

				try_vvvv(forms, form);
			}
}

/* 2 bits of L'L, of which rounding makes something else, W, and b. */
static void find_evex(struct forms *forms)
{
	static const u8 maps[] = {1, 2, 3, 5, 6};

	for (unsigned map = 0; map < ARRAY_SIZE(maps); map++)
		for (unsigned opcode = 0; opcode < 256; opcode++)
			for (unsigned bits = 0; bits < 64; bits++) {
				struct form form = {.evex = true,
						    .map = maps[map],
						    .opcode = opcode,
						    .prefix = mandatory[bits & 3],
						    .wide = bits & 4,
						    .b = bits & 8,
						    .length = bits >> 4};

				try_vvvv(forms, form);
			}
}

static void sort_by_class(struct forms *forms)
{
	for (unsigned i = 0; i < FORM_CLASSES; i++) {
		forms->class[i] = calloc(forms->count, sizeof(unsigned));
		if (!forms->class[i])
			abort();
	}
	for (unsigned i = 0; i < forms->count; i++) {
		unsigned class = forms->all[i].class;

		if (class < FORM_CLASSES && !forms->all[i].odd)
			forms->class[class][forms->class_count[class]++] = i;
	}
}

struct forms *forms_new(bool compat, bool narrow)
{
	struct forms *forms = calloc(1, sizeof(*forms));

	if (!forms)
		abort();
	forms->compat = compat;
	forms->narrow = narrow;
	if (narrow)
		ZydisDecoderInit(&forms->decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_16,
				 ZYDIS_STACK_WIDTH_16);
	else if (compat)
		ZydisDecoderInit(&forms->decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
				 ZYDIS_STACK_WIDTH_32);
	else
		ZydisDecoderInit(&forms->decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	find_legacy(forms);
	find_vex(forms);
	find_evex(forms);
	sort_by_class(forms);
	return forms;
}

void forms_free(struct forms *forms)
{
	for (unsigned i = 0; i < FORM_CLASSES; i++)
		free(forms->class[i]);
	free(forms->all);
	free(forms);
}
