/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions that C executes: what is left of the decoder's answer, for the handler.
 *
 * Tour 6.120: What is left of an instruction, for C
 */
#include "engine/soft/translation.h"

static u8 segment_for_c(const struct translation *t)
{
	static const struct {
		u64 attribute;
		u8 segment;
	} overrides[] = {
		{ZYDIS_ATTRIB_HAS_SEGMENT_CS, CS}, {ZYDIS_ATTRIB_HAS_SEGMENT_SS, SS},
		{ZYDIS_ATTRIB_HAS_SEGMENT_DS, DS}, {ZYDIS_ATTRIB_HAS_SEGMENT_ES, ES},
		{ZYDIS_ATTRIB_HAS_SEGMENT_FS, FS}, {ZYDIS_ATTRIB_HAS_SEGMENT_GS, GS},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(overrides); i++)
		if (t->zi.attributes & overrides[i].attribute)
			return overrides[i].segment;
	return DS;
}

static void describe_memory(struct insn *insn, const ZydisDecodedOperand *operand)
{
	ZydisRegister base = operand->mem.base, index = operand->mem.index;

	insn->has_memory = true;
	insn->scale = operand->mem.scale ? operand->mem.scale : 1;
	insn->displacement = operand->mem.disp.value;
	insn->segment = segment_of(operand->mem.segment);
	insn->base = base == ZYDIS_REGISTER_RIP || base == ZYDIS_REGISTER_EIP ? OPERAND_RIP
									      : gpr_of(base);
	insn->index = gpr_of(index);
	/* VSIB */
	if (index >= ZYDIS_REGISTER_XMM0 && index <= ZYDIS_REGISTER_ZMM31)
		insn->index = ZydisRegisterGetId(index);
}

static const struct insn *describe(struct translation *t, handler *function)
{
	const ZydisDecodedInstruction *zi = &t->zi;
	struct insn *insn = cache_alloc(t->vcpu->cache, sizeof(*insn));
	bool vex = zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ||
		   zi->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
	unsigned immediates = 0;

	insn->handler = function;
	insn->mnemonic = zi->mnemonic;
	insn->length = zi->length;
	insn->opsize = zi->operand_width / 8;
	insn->addrsize = zi->address_width / 8;
	insn->repeat = repeat_prefix(zi);
	insn->opcode = zi->opcode;
	insn->base = insn->index = insn->rm = insn->vvvv = OPERAND_NONE;
	insn->segment = segment_for_c(t);
	insn->offset = t->offset;
	if (zi->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
		insn->reg = modrm_reg(t);
		if (zi->raw.modrm.mod == 3)
			insn->rm = modrm_rm(t);
	}
	for (unsigned i = 0; i < zi->operand_count; i++) {
		const ZydisDecodedOperand *operand = &t->op[i];
		bool shown = operand->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT;

		if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY && shown)
			describe_memory(insn, operand);
		if (operand->type == ZYDIS_OPERAND_TYPE_POINTER) {
			insn->immediate = operand->ptr.offset;
			insn->immediate2 = operand->ptr.segment;
		}
		if (operand->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			if (immediates++)
				insn->immediate2 = operand->imm.value.u;
			else
				insn->immediate = operand->imm.value.u;
		}
		if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			ZydisRegister reg = operand->reg.value;

			if (operand->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
				insn->vvvv = ZydisRegisterGetId(reg);
			if (operand->encoding == ZYDIS_OPERAND_ENCODING_MASK)
				insn->mask = ZydisRegisterGetId(reg);
			if (vex && operand->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
				insn->reg = ZydisRegisterGetId(reg);
			if (vex && operand->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
				insn->rm = ZydisRegisterGetId(reg);
			/* push fs, and registers in the opcode */
			if (ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_SEGMENT && shown &&
			    !(zi->attributes & ZYDIS_ATTRIB_HAS_MODRM))
				insn->reg = reg - ZYDIS_REGISTER_ES;
		}
	}
	if (vex)
		insn->vlen = zi->avx.vector_length / 8;
	return insn;
}

void put_handler(struct translation *t, const struct form *form)
{
	put_site(&t->e, SITE_INSN, form->last ? SITE_LAST : 0, 0, t->offset,
		 (u64)describe(t, form->handler));
}

void put_near(struct translation *t, handler *function, bool last)
{
	put_handler(t, &(struct form){.kind = FORM_HANDLER, .handler = function, .last = last});
}

void put_raise(struct translation *t, enum vector vector)
{
	put_site(&t->e, SITE_RAISE, 0, 0, t->offset, vector);
	t->ended = true;
}
