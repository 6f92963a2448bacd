/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The allow-list itself: see forms.h. Integer instructions by name, vector and
 * x87 ones by the set they came with, less those that are special.
 *
 * Tour 6.110
 */
#include "engine/soft/forms.h"

#define PASS(unit)	  ((struct form){FORM_PASS, unit, NULL, false})
#define KIND(kind)	  ((struct form){kind, UNIT_INTEGER, NULL, false})
#define LAST(kind)	  ((struct form){kind, UNIT_INTEGER, NULL, true})
#define HANDLER(function) ((struct form){FORM_HANDLER, UNIT_INTEGER, function, false})
#define ENDING(function)  ((struct form){FORM_HANDLER, UNIT_INTEGER, function, true})
#define UNKNOWN		  KIND(FORM_UNKNOWN)

static bool is_memory(const ZydisDecodedOperand *operand)
{
	return operand->type == ZYDIS_OPERAND_TYPE_MEMORY;
}

static ZydisRegisterClass class_of(const ZydisDecodedOperand *operand)
{
	return operand->type == ZYDIS_OPERAND_TYPE_REGISTER
		       ? ZydisRegisterGetClass(operand->reg.value)
		       : ZYDIS_REGCLASS_INVALID;
}

static struct form mov(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	for (unsigned i = 0; i < 2; i++) {
		switch (class_of(&operands[i])) {
		case ZYDIS_REGCLASS_SEGMENT:
			return HANDLER(i ? segment_mov_from : segment_mov_to);
		case ZYDIS_REGCLASS_CONTROL:
			return ENDING(system_mov_cr);
		case ZYDIS_REGCLASS_DEBUG:
			return ENDING(system_mov_dr);
		case ZYDIS_REGCLASS_TEST:
			return UNKNOWN;
		default:
			break;
		}
	}
	if (insn->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && insn->opcode >= 0xa0 &&
	    insn->opcode <= 0xa3)
		return KIND(FORM_MOV_OFFSET);
	return PASS(UNIT_INTEGER);
}

/* Of jumps and calls. */
static struct form transfer(const ZydisDecodedInstruction *insn, enum form_kind near_kind,
			    handler *far_handler)
{
	if (insn->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return ENDING(far_handler);
	return LAST(near_kind);
}

static struct form stack(const ZydisDecodedOperand *operands, enum form_kind kind,
			 handler *segment_handler)
{
	if (class_of(&operands[0]) == ZYDIS_REGCLASS_SEGMENT)
		return HANDLER(segment_handler);
	return KIND(kind);
}

/*
 * Integer instructions, by name. Those that pass come first, and go on for a while.
 *
 * Tour 6.111, 20 lines: The list of instructions
 */
static struct form integer(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_ADC:
	case ZYDIS_MNEMONIC_ADCX:
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_ADOX:
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_ANDN:
	case ZYDIS_MNEMONIC_BEXTR:
	case ZYDIS_MNEMONIC_BLSI:
	case ZYDIS_MNEMONIC_BLSMSK:
	case ZYDIS_MNEMONIC_BLSR:
	case ZYDIS_MNEMONIC_BSF:
	case ZYDIS_MNEMONIC_BSR:
	case ZYDIS_MNEMONIC_BSWAP:
	case ZYDIS_MNEMONIC_BZHI:
	case ZYDIS_MNEMONIC_CBW:
	case ZYDIS_MNEMONIC_CDQ:
	case ZYDIS_MNEMONIC_CDQE:
	case ZYDIS_MNEMONIC_CLC:
	case ZYDIS_MNEMONIC_CMC:
	case ZYDIS_MNEMONIC_CMOVB:
	case ZYDIS_MNEMONIC_CMOVBE:
	case ZYDIS_MNEMONIC_CMOVL:
	case ZYDIS_MNEMONIC_CMOVLE:
	case ZYDIS_MNEMONIC_CMOVNB:
	case ZYDIS_MNEMONIC_CMOVNBE:
	case ZYDIS_MNEMONIC_CMOVNL:
	case ZYDIS_MNEMONIC_CMOVNLE:
	case ZYDIS_MNEMONIC_CMOVNO:
	case ZYDIS_MNEMONIC_CMOVNP:
	case ZYDIS_MNEMONIC_CMOVNS:
	case ZYDIS_MNEMONIC_CMOVNZ:
	case ZYDIS_MNEMONIC_CMOVO:
	case ZYDIS_MNEMONIC_CMOVP:
	case ZYDIS_MNEMONIC_CMOVS:
	case ZYDIS_MNEMONIC_CMOVZ:
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_CMPXCHG:
	case ZYDIS_MNEMONIC_CMPXCHG8B:
	case ZYDIS_MNEMONIC_CMPXCHG16B:
	case ZYDIS_MNEMONIC_CQO:
	case ZYDIS_MNEMONIC_CRC32:
	case ZYDIS_MNEMONIC_CWD:
	case ZYDIS_MNEMONIC_CWDE:
	case ZYDIS_MNEMONIC_DEC:
	case ZYDIS_MNEMONIC_DIV:
	case ZYDIS_MNEMONIC_IDIV:
	case ZYDIS_MNEMONIC_IMUL:
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_LAHF:
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_LZCNT:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_MOVBE:
	case ZYDIS_MNEMONIC_MOVDIRI:
	case ZYDIS_MNEMONIC_MOVNTI:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD:
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MUL:
	case ZYDIS_MNEMONIC_MULX:
	case ZYDIS_MNEMONIC_NEG:
	case ZYDIS_MNEMONIC_NOT:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_PDEP:
	case ZYDIS_MNEMONIC_PEXT:
	case ZYDIS_MNEMONIC_POPCNT:
	case ZYDIS_MNEMONIC_RCL:
	case ZYDIS_MNEMONIC_RCR:
	case ZYDIS_MNEMONIC_RDRAND:
	case ZYDIS_MNEMONIC_RDSEED:
	case ZYDIS_MNEMONIC_ROL:
	case ZYDIS_MNEMONIC_ROR:
	case ZYDIS_MNEMONIC_RORX:
	case ZYDIS_MNEMONIC_SAHF:
	case ZYDIS_MNEMONIC_SAR:
	case ZYDIS_MNEMONIC_SARX:
	case ZYDIS_MNEMONIC_SBB:
	case ZYDIS_MNEMONIC_SERIALIZE:
	case ZYDIS_MNEMONIC_SETB:
	case ZYDIS_MNEMONIC_SETBE:
	case ZYDIS_MNEMONIC_SETL:
	case ZYDIS_MNEMONIC_SETLE:
	case ZYDIS_MNEMONIC_SETNB:
	case ZYDIS_MNEMONIC_SETNBE:
	case ZYDIS_MNEMONIC_SETNL:
	case ZYDIS_MNEMONIC_SETNLE:
	case ZYDIS_MNEMONIC_SETNO:
	case ZYDIS_MNEMONIC_SETNP:
	case ZYDIS_MNEMONIC_SETNS:
	case ZYDIS_MNEMONIC_SETNZ:
	case ZYDIS_MNEMONIC_SETO:
	case ZYDIS_MNEMONIC_SETP:
	case ZYDIS_MNEMONIC_SETS:
	case ZYDIS_MNEMONIC_SETZ:
	case ZYDIS_MNEMONIC_SFENCE:
	case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHLX:
	case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SHRD:
	case ZYDIS_MNEMONIC_SHRX:
	case ZYDIS_MNEMONIC_STC:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_TZCNT:
	case ZYDIS_MNEMONIC_XADD:
	case ZYDIS_MNEMONIC_XCHG:
	case ZYDIS_MNEMONIC_XOR:
		return PASS(UNIT_INTEGER);
	case ZYDIS_MNEMONIC_MOV:
		return mov(insn, operands);
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTC:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTS:
		return is_memory(&operands[0]) && class_of(&operands[1]) != ZYDIS_REGCLASS_INVALID
			       ? KIND(FORM_BIT_STRING)
			       : PASS(UNIT_INTEGER);
	case ZYDIS_MNEMONIC_LEA:
		return KIND(FORM_LEA);
	case ZYDIS_MNEMONIC_XLAT:
		return KIND(FORM_XLAT);
	case ZYDIS_MNEMONIC_PUSH:
		return stack(operands, FORM_PUSH, segment_push);
	case ZYDIS_MNEMONIC_POP:
		return stack(operands, FORM_POP, segment_pop);
	case ZYDIS_MNEMONIC_LEAVE:
		return KIND(FORM_LEAVE);
	case ZYDIS_MNEMONIC_ENTER:
		return HANDLER(stack_enter);
	case ZYDIS_MNEMONIC_PUSHA:
	case ZYDIS_MNEMONIC_PUSHAD:
		return HANDLER(near_pusha);
	case ZYDIS_MNEMONIC_POPA:
	case ZYDIS_MNEMONIC_POPAD:
		return HANDLER(near_popa);
	case ZYDIS_MNEMONIC_AAA:
		return HANDLER(legacy_aaa);
	case ZYDIS_MNEMONIC_AAD:
		return HANDLER(legacy_aad);
	case ZYDIS_MNEMONIC_AAM:
		return HANDLER(legacy_aam);
	case ZYDIS_MNEMONIC_AAS:
		return HANDLER(legacy_aas);
	case ZYDIS_MNEMONIC_DAA:
		return HANDLER(legacy_daa);
	case ZYDIS_MNEMONIC_DAS:
		return HANDLER(legacy_das);
	case ZYDIS_MNEMONIC_SALC:
		return HANDLER(legacy_salc);
	case ZYDIS_MNEMONIC_BOUND:
		return HANDLER(legacy_bound);
	case ZYDIS_MNEMONIC_ARPL:
		return HANDLER(legacy_arpl);
	case ZYDIS_MNEMONIC_CALL:
		return transfer(insn, FORM_CALL, segment_call_far);
	case ZYDIS_MNEMONIC_RET:
		return transfer(insn, FORM_RET, segment_ret_far);
	case ZYDIS_MNEMONIC_JMP:
		return transfer(insn, FORM_JMP, segment_jmp_far);
	case ZYDIS_MNEMONIC_JB:
	case ZYDIS_MNEMONIC_JBE:
	case ZYDIS_MNEMONIC_JL:
	case ZYDIS_MNEMONIC_JLE:
	case ZYDIS_MNEMONIC_JNB:
	case ZYDIS_MNEMONIC_JNBE:
	case ZYDIS_MNEMONIC_JNL:
	case ZYDIS_MNEMONIC_JNLE:
	case ZYDIS_MNEMONIC_JNO:
	case ZYDIS_MNEMONIC_JNP:
	case ZYDIS_MNEMONIC_JNS:
	case ZYDIS_MNEMONIC_JNZ:
	case ZYDIS_MNEMONIC_JO:
	case ZYDIS_MNEMONIC_JP:
	case ZYDIS_MNEMONIC_JS:
	case ZYDIS_MNEMONIC_JZ:
		return LAST(FORM_JCC);
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
		return LAST(FORM_LOOP);
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_ENDBR32:
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_PREFETCH:
	case ZYDIS_MNEMONIC_PREFETCHW:
	case ZYDIS_MNEMONIC_PREFETCHWT1:
	case ZYDIS_MNEMONIC_PREFETCHNTA:
	case ZYDIS_MNEMONIC_PREFETCHT0:
	case ZYDIS_MNEMONIC_PREFETCHT1:
	case ZYDIS_MNEMONIC_PREFETCHT2:
		return KIND(FORM_NOTHING);
	case ZYDIS_MNEMONIC_CLFLUSH:
	case ZYDIS_MNEMONIC_CLFLUSHOPT:
	case ZYDIS_MNEMONIC_CLWB:
		return KIND(FORM_TOUCH);
	default:
		return UNKNOWN;
	}
}

static struct form system_form(const ZydisDecodedInstruction *insn)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_MOVSQ:
		return HANDLER(string_movs);
	case ZYDIS_MNEMONIC_CMPSB:
	case ZYDIS_MNEMONIC_CMPSW:
	case ZYDIS_MNEMONIC_CMPSD:
	case ZYDIS_MNEMONIC_CMPSQ:
		return HANDLER(string_cmps);
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_STOSQ:
		return HANDLER(string_stos);
	case ZYDIS_MNEMONIC_LODSB:
	case ZYDIS_MNEMONIC_LODSW:
	case ZYDIS_MNEMONIC_LODSD:
	case ZYDIS_MNEMONIC_LODSQ:
		return HANDLER(string_lods);
	case ZYDIS_MNEMONIC_SCASB:
	case ZYDIS_MNEMONIC_SCASW:
	case ZYDIS_MNEMONIC_SCASD:
	case ZYDIS_MNEMONIC_SCASQ:
		return HANDLER(string_scas);
	case ZYDIS_MNEMONIC_IN:
		return HANDLER(system_in);
	case ZYDIS_MNEMONIC_OUT:
		return HANDLER(system_out);
	case ZYDIS_MNEMONIC_INSB:
	case ZYDIS_MNEMONIC_INSW:
	case ZYDIS_MNEMONIC_INSD:
		return HANDLER(system_ins);
	case ZYDIS_MNEMONIC_OUTSB:
	case ZYDIS_MNEMONIC_OUTSW:
	case ZYDIS_MNEMONIC_OUTSD:
		return HANDLER(system_outs);
	case ZYDIS_MNEMONIC_PUSHF:
	case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_PUSHFQ:
		return HANDLER(system_pushf);
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
		return HANDLER(system_popf);
	case ZYDIS_MNEMONIC_CLI:
		return HANDLER(system_cli);
	case ZYDIS_MNEMONIC_STI:
		return ENDING(system_sti);
	case ZYDIS_MNEMONIC_CLD:
		return HANDLER(system_cld);
	case ZYDIS_MNEMONIC_STD:
		return HANDLER(system_std);
	case ZYDIS_MNEMONIC_CLAC:
		return ENDING(system_clac);
	case ZYDIS_MNEMONIC_STAC:
		return ENDING(system_stac);
	case ZYDIS_MNEMONIC_CLTS:
		return ENDING(system_clts);
	case ZYDIS_MNEMONIC_LMSW:
		return ENDING(system_lmsw);
	case ZYDIS_MNEMONIC_SMSW:
		return HANDLER(system_smsw);
	case ZYDIS_MNEMONIC_LGDT:
		return HANDLER(system_lgdt);
	case ZYDIS_MNEMONIC_LIDT:
		return HANDLER(system_lidt);
	case ZYDIS_MNEMONIC_SGDT:
		return HANDLER(system_sgdt);
	case ZYDIS_MNEMONIC_SIDT:
		return HANDLER(system_sidt);
	case ZYDIS_MNEMONIC_LLDT:
		return HANDLER(system_lldt);
	case ZYDIS_MNEMONIC_SLDT:
		return HANDLER(system_sldt);
	case ZYDIS_MNEMONIC_LTR:
		return HANDLER(system_ltr);
	case ZYDIS_MNEMONIC_STR:
		return HANDLER(system_str);
	case ZYDIS_MNEMONIC_LAR:
		return HANDLER(system_lar);
	case ZYDIS_MNEMONIC_LSL:
		return HANDLER(system_lsl);
	case ZYDIS_MNEMONIC_VERR:
		return HANDLER(system_verr);
	case ZYDIS_MNEMONIC_VERW:
		return HANDLER(system_verw);
	case ZYDIS_MNEMONIC_CPUID:
		return HANDLER(system_cpuid);
	case ZYDIS_MNEMONIC_RDMSR:
		return HANDLER(system_rdmsr);
	case ZYDIS_MNEMONIC_WRMSR:
		return ENDING(system_wrmsr);
	case ZYDIS_MNEMONIC_RDTSC:
		return HANDLER(system_rdtsc);
	case ZYDIS_MNEMONIC_RDTSCP:
		return HANDLER(system_rdtscp);
	case ZYDIS_MNEMONIC_RDPID:
		return HANDLER(system_rdpid);
	case ZYDIS_MNEMONIC_RDPMC:
		return HANDLER(system_rdpmc);
	case ZYDIS_MNEMONIC_XGETBV:
		return HANDLER(system_xgetbv);
	case ZYDIS_MNEMONIC_XSETBV:
		return ENDING(system_xsetbv);
	case ZYDIS_MNEMONIC_RDPKRU:
		return HANDLER(system_rdpkru);
	case ZYDIS_MNEMONIC_WRPKRU:
		return HANDLER(system_wrpkru);
	case ZYDIS_MNEMONIC_SWAPGS:
		return HANDLER(system_swapgs);
	case ZYDIS_MNEMONIC_RDFSBASE:
	case ZYDIS_MNEMONIC_RDGSBASE:
	case ZYDIS_MNEMONIC_WRFSBASE:
	case ZYDIS_MNEMONIC_WRGSBASE:
		return HANDLER(system_fsgsbase);
	case ZYDIS_MNEMONIC_INVLPG:
		return ENDING(system_invlpg);
	case ZYDIS_MNEMONIC_INVPCID:
		return ENDING(system_invpcid);
	case ZYDIS_MNEMONIC_INVD:
	case ZYDIS_MNEMONIC_WBINVD:
		return HANDLER(system_invd);
	case ZYDIS_MNEMONIC_HLT:
		return ENDING(system_hlt);
	case ZYDIS_MNEMONIC_PAUSE:
		return HANDLER(system_pause);
	case ZYDIS_MNEMONIC_LSS:
	case ZYDIS_MNEMONIC_LFS:
	case ZYDIS_MNEMONIC_LGS:
	case ZYDIS_MNEMONIC_LES:
	case ZYDIS_MNEMONIC_LDS:
		return HANDLER(segment_load_far);
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
		return ENDING(segment_iret);
	case ZYDIS_MNEMONIC_SYSCALL:
		return ENDING(segment_syscall);
	case ZYDIS_MNEMONIC_SYSRET:
		return ENDING(segment_sysret);
	case ZYDIS_MNEMONIC_SYSENTER:
		return ENDING(segment_sysenter);
	case ZYDIS_MNEMONIC_SYSEXIT:
		return ENDING(segment_sysexit);
	case ZYDIS_MNEMONIC_INT3:
		return ENDING(interrupt_int3);
	case ZYDIS_MNEMONIC_INT1:
		return ENDING(interrupt_int1);
	case ZYDIS_MNEMONIC_INT:
		return ENDING(interrupt_int);
	case ZYDIS_MNEMONIC_INTO:
		return ENDING(interrupt_into);
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
		return HANDLER(fpu_fxsave);
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
		return HANDLER(fpu_fxrstor);
	case ZYDIS_MNEMONIC_XSAVE:
	case ZYDIS_MNEMONIC_XSAVE64:
	case ZYDIS_MNEMONIC_XSAVEOPT:
	case ZYDIS_MNEMONIC_XSAVEOPT64:
		return HANDLER(fpu_xsave);
	case ZYDIS_MNEMONIC_XSAVEC:
	case ZYDIS_MNEMONIC_XSAVEC64:
	case ZYDIS_MNEMONIC_XSAVES:
	case ZYDIS_MNEMONIC_XSAVES64:
		return HANDLER(fpu_xsavec);
	case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64:
	case ZYDIS_MNEMONIC_XRSTORS:
	case ZYDIS_MNEMONIC_XRSTORS64:
		return HANDLER(fpu_xrstor);
	case ZYDIS_MNEMONIC_FNSTENV:
		return HANDLER(fpu_fnstenv);
	case ZYDIS_MNEMONIC_FNSAVE:
		return HANDLER(fpu_fnsave);
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ:
		return HANDLER(fpu_maskmov);
	case ZYDIS_MNEMONIC_MOVDIR64B:
		return HANDLER(move_64_bytes);
	case ZYDIS_MNEMONIC_VMCALL:
	case ZYDIS_MNEMONIC_VMMCALL:
		return HANDLER(system_vmcall);
	default:
		return UNKNOWN;
	}
}

/* Sets in which every instruction that is not special computes on registers and one operand. */
static struct form vector(const ZydisDecodedInstruction *insn)
{
	/* These came with the Pentium Pro and with SSE3, like others that are not the x87's. */
	if ((insn->meta.isa_set == ZYDIS_ISA_SET_PPRO ||
	     insn->meta.isa_set == ZYDIS_ISA_SET_SSE3) &&
	    insn->meta.category == ZYDIS_CATEGORY_X87_ALU)
		return PASS(UNIT_X87);
	if ((insn->mnemonic == ZYDIS_MNEMONIC_VZEROALL ||
	     insn->mnemonic == ZYDIS_MNEMONIC_VZEROUPPER) &&
	    insn->machine_mode != ZYDIS_MACHINE_MODE_LONG_64)
		return (struct form){.kind = FORM_ZERO, .unit = UNIT_AVX};
	if (insn->mnemonic == ZYDIS_MNEMONIC_FWAIT)
		return PASS(UNIT_WAIT);
	switch (insn->meta.isa_set) {
	case ZYDIS_ISA_SET_X87:
	case ZYDIS_ISA_SET_FCMOV:
	case ZYDIS_ISA_SET_SSE3X87:
		return PASS(UNIT_X87);
	case ZYDIS_ISA_SET_PENTIUMMMX:
	case ZYDIS_ISA_SET_SSSE3MMX:
		return PASS(UNIT_MMX);
	case ZYDIS_ISA_SET_SSE:
	case ZYDIS_ISA_SET_SSEMXCSR:
	case ZYDIS_ISA_SET_SSE2:
	case ZYDIS_ISA_SET_SSE2MMX:
	case ZYDIS_ISA_SET_SSE3:
	case ZYDIS_ISA_SET_SSSE3:
	case ZYDIS_ISA_SET_SSE4:
	case ZYDIS_ISA_SET_SSE42:
	case ZYDIS_ISA_SET_AES:
	case ZYDIS_ISA_SET_PCLMULQDQ:
	case ZYDIS_ISA_SET_SHA:
	case ZYDIS_ISA_SET_GFNI:
		return PASS(UNIT_SSE);
	case ZYDIS_ISA_SET_AVX:
	case ZYDIS_ISA_SET_AVX2:
	case ZYDIS_ISA_SET_AVXAES:
	case ZYDIS_ISA_SET_F16C:
	case ZYDIS_ISA_SET_FMA:
	case ZYDIS_ISA_SET_VAES:
	case ZYDIS_ISA_SET_VPCLMULQDQ:
	case ZYDIS_ISA_SET_AVX_GFNI:
	case ZYDIS_ISA_SET_AVX_VNNI:
		return PASS(UNIT_AVX);
	case ZYDIS_ISA_SET_AVX2GATHER:
		return HANDLER(fpu_gather);
	case ZYDIS_ISA_SET_AVX512F_128:
	case ZYDIS_ISA_SET_AVX512F_128N:
	case ZYDIS_ISA_SET_AVX512F_256:
	case ZYDIS_ISA_SET_AVX512F_512:
	case ZYDIS_ISA_SET_AVX512F_KOP:
	case ZYDIS_ISA_SET_AVX512F_SCALAR:
	case ZYDIS_ISA_SET_AVX512BW_128:
	case ZYDIS_ISA_SET_AVX512BW_128N:
	case ZYDIS_ISA_SET_AVX512BW_256:
	case ZYDIS_ISA_SET_AVX512BW_512:
	case ZYDIS_ISA_SET_AVX512BW_KOP:
	case ZYDIS_ISA_SET_AVX512CD_128:
	case ZYDIS_ISA_SET_AVX512CD_256:
	case ZYDIS_ISA_SET_AVX512CD_512:
	case ZYDIS_ISA_SET_AVX512DQ_128:
	case ZYDIS_ISA_SET_AVX512DQ_128N:
	case ZYDIS_ISA_SET_AVX512DQ_256:
	case ZYDIS_ISA_SET_AVX512DQ_512:
	case ZYDIS_ISA_SET_AVX512DQ_KOP:
	case ZYDIS_ISA_SET_AVX512DQ_SCALAR:
	case ZYDIS_ISA_SET_AVX512_BF16_128:
	case ZYDIS_ISA_SET_AVX512_BF16_256:
	case ZYDIS_ISA_SET_AVX512_BF16_512:
	case ZYDIS_ISA_SET_AVX512_BITALG_128:
	case ZYDIS_ISA_SET_AVX512_BITALG_256:
	case ZYDIS_ISA_SET_AVX512_BITALG_512:
	case ZYDIS_ISA_SET_AVX512_FP16_128:
	case ZYDIS_ISA_SET_AVX512_FP16_128N:
	case ZYDIS_ISA_SET_AVX512_FP16_256:
	case ZYDIS_ISA_SET_AVX512_FP16_512:
	case ZYDIS_ISA_SET_AVX512_FP16_SCALAR:
	case ZYDIS_ISA_SET_AVX512_GFNI_128:
	case ZYDIS_ISA_SET_AVX512_GFNI_256:
	case ZYDIS_ISA_SET_AVX512_GFNI_512:
	case ZYDIS_ISA_SET_AVX512_IFMA_128:
	case ZYDIS_ISA_SET_AVX512_IFMA_256:
	case ZYDIS_ISA_SET_AVX512_IFMA_512:
	case ZYDIS_ISA_SET_AVX512_VAES_128:
	case ZYDIS_ISA_SET_AVX512_VAES_256:
	case ZYDIS_ISA_SET_AVX512_VAES_512:
	case ZYDIS_ISA_SET_AVX512_VBMI2_128:
	case ZYDIS_ISA_SET_AVX512_VBMI2_256:
	case ZYDIS_ISA_SET_AVX512_VBMI2_512:
	case ZYDIS_ISA_SET_AVX512_VBMI_128:
	case ZYDIS_ISA_SET_AVX512_VBMI_256:
	case ZYDIS_ISA_SET_AVX512_VBMI_512:
	case ZYDIS_ISA_SET_AVX512_VNNI_128:
	case ZYDIS_ISA_SET_AVX512_VNNI_256:
	case ZYDIS_ISA_SET_AVX512_VNNI_512:
	case ZYDIS_ISA_SET_AVX512_VP2INTERSECT_128:
	case ZYDIS_ISA_SET_AVX512_VP2INTERSECT_256:
	case ZYDIS_ISA_SET_AVX512_VP2INTERSECT_512:
	case ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_128:
	case ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_256:
	case ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_512:
	case ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_128:
	case ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_256:
	case ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512:
		if (insn->meta.category == ZYDIS_CATEGORY_GATHER)
			return HANDLER(fpu_gather_masked);
		if (insn->meta.category == ZYDIS_CATEGORY_SCATTER)
			return HANDLER(fpu_scatter);
		return PASS(UNIT_AVX512);
	default:
		return UNKNOWN;
	}
}

void form_decoder(ZydisDecoder *decoder, u32 mode)
{
	/* Room for hints, in which newer CPUs found room for instructions: to those without, what
	 * was a NOP still is. libgcc unwinds with RDSSP, and does not ask. WBNOINVD is WBINVD. */
	static const ZydisDecoderMode newer[] = {
		ZYDIS_DECODER_MODE_CET,
		ZYDIS_DECODER_MODE_CLDEMOTE,
		ZYDIS_DECODER_MODE_MPX,
		ZYDIS_DECODER_MODE_WBNOINVD,
	};

	switch (mode & MODE_CODE) {
	case MODE_CODE_64:
		ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
		break;
	case MODE_CODE_32:
		ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
		break;
	default:
		ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(newer); i++)
		ZydisDecoderEnableMode(decoder, newer[i], false);
}

/*
 * What to do with an instruction. Whatever no list has is FORM_UNKNOWN, and undefined to the
 * guest.
 *
 * Tour 6.112: The question
 */
struct form form_of(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	struct form form;

	if (insn->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	    insn->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX &&
	    insn->encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX)
		return UNKNOWN;
	/* Intel's Knights Corner had TZCNT and its like at places of its own. */
	if (insn->meta.isa_set == ZYDIS_ISA_SET_KNCV)
		return UNKNOWN;
	form = integer(insn, operands);
	if (form.kind != FORM_UNKNOWN)
		return form;
	form = system_form(insn);
	/* SSE has a MOVSD and a CMPSD of its own. */
	if (form.kind != FORM_UNKNOWN && insn->meta.isa_set != ZYDIS_ISA_SET_SSE2)
		return form;
	if (insn->mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU)
		return form;
	return vector(insn);
}
