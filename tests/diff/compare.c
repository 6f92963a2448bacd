/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Are two outcomes the same? And if not, in what: for people to read.
 *
 * Everything is compared, also flags that the architecture calls undefined: both sides
 * are the same silicon, and the engine is not meant to compute anything itself.
 */
#include "diff.h"

#include <asm/processor-flags.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define VECTOR_STACK	  12
#define VECTOR_PROTECTION 13
#define VECTOR_PAGE_FAULT 14
#define NEARBY		  64 /* the largest operand of a masked move */
#define NEARBY_IMAGE	  512
#define VECTOR_SIMD	  19
#define X87_MASKS	  0x3f /* in the control word */
#define X87_SUMMARY	  0x80 /* in the status word: one that is not masked is pending */

/*
 * Of the flags, those that a program can see or change by itself. RF is the exception's, and
 * what KVM or the kernel below us make of it.
 */
#define FLAGS_COMPARED (~(u64)X86_EFLAGS_RF)

/*
 * Linux says of every kernel address that a page is there, so that nobody can learn where it
 * really is.
 */
static u32 error_compared(const struct outcome *outcome)
{
	const u64 user_end = 0x7ffffffff000;

	if (outcome->vector == VECTOR_PAGE_FAULT && outcome->cr2 >= user_end)
		return outcome->error | 1;
	return outcome->error;
}

static void decoder_init(ZydisDecoder *decoder, const struct sequence *sequence)
{
	if (sequence->narrow)
		ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16);
	else if (sequence->compat)
		ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
	else
		ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

/* What a faulting instruction may leave undone, or half done: no manual says how much. */
struct leniency {
	unsigned nearby; /* which part of the operand it was: it has so many bytes */
	bool memory;	 /* what it has written before */
	bool mxcsr;	 /* which exceptions it has flagged before */
	bool vectors;	 /* what it has loaded before */
	bool top;	 /* whether the x87 stack was made a set of MMX registers already */
};

struct decoded {
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	enum form_class class;
};

static bool decode_at(const struct sequence *sequence, u64 rip, struct decoded *decoded)
{
	ZydisDecoder decoder;
	const struct item *item = NULL;

	if (sequence->segmented)
		rip += sequence->local[LOCAL_CS].base;
	for (unsigned i = 0; i < sequence->count; i++)
		if (!sequence->items[i].dropped && CODE_BASE + sequence->items[i].offset == rip)
			item = &sequence->items[i];
	decoder_init(&decoder, sequence);
	if (!item || ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, item->bytes, item->length,
							&decoded->insn, decoded->operands)))
		return false;
	decoded->class = form_classify(&decoded->insn, decoded->operands);
	return true;
}

/* Which of its elements the CPU calls the first that faulted, is its affair. */
static unsigned masked_bytes(const ZydisDecodedInstruction *insn)
{
	return insn->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX &&
			       insn->avx.mask.mode != ZYDIS_MASK_MODE_DISABLED
		       ? NEARBY
		       : 0;
}

static struct leniency leniency_of(const struct sequence *sequence, u64 rip)
{
	struct decoded decoded;

	if (!decode_at(sequence, rip, &decoded))
		return (struct leniency){0};
	if (form_is_xsave(&decoded.insn))
		return (struct leniency){.nearby = PAGE_SIZE, .memory = true, .vectors = true};
	switch (decoded.insn.mnemonic) {
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
		return (struct leniency){.nearby = NEARBY_IMAGE};
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ:
		return (struct leniency){.nearby = NEARBY};
	case ZYDIS_MNEMONIC_MASKMOVQ:
		return (struct leniency){.nearby = NEARBY, .top = true};
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
		return (struct leniency){.nearby = NEARBY_IMAGE, .memory = true};
	case ZYDIS_MNEMONIC_VCVTPS2PH:
		return (struct leniency){.mxcsr = true, .nearby = masked_bytes(&decoded.insn)};
	case ZYDIS_MNEMONIC_FSTP: /* of 80 bits */
	case ZYDIS_MNEMONIC_FBSTP:
	case ZYDIS_MNEMONIC_MOVBE:
		return (struct leniency){.memory = true};
	default:
		return (struct leniency){.top = decoded.class == FORM_MMX,
					 .nearby = masked_bytes(&decoded.insn)};
	}
}

/* Is there something behind that which makes x87 forget an exception that was not delivered? */
static bool cleared_later(const struct sequence *sequence, u64 rip)
{
	struct decoded decoded;

	for (; decode_at(sequence, rip, &decoded); rip += decoded.insn.length)
		if (decoded.insn.mnemonic == ZYDIS_MNEMONIC_FNCLEX ||
		    decoded.insn.mnemonic == ZYDIS_MNEMONIC_FNINIT ||
		    decoded.insn.mnemonic == ZYDIS_MNEMONIC_FNSAVE)
			return true;
	return false;
}

/*
 * An exception in computing what is to be stored, of which the CPU knows before it looks whether
 * it may be stored, and the engine after. What follows cannot be compared.
 */
static bool computed_first(const struct sequence *sequence, const struct outcome *native,
			   const struct outcome *soft)
{
	struct decoded decoded;

	if ((soft->vector != VECTOR_PAGE_FAULT && soft->vector != VECTOR_STACK &&
	     soft->vector != VECTOR_PROTECTION) ||
	    !decode_at(sequence, soft->state.rip, &decoded))
		return false;
	if (decoded.insn.mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH)
		return native->vector == VECTOR_SIMD && native->state.rip == soft->state.rip;
	return decoded.class == FORM_X87 && ~soft->state.vectors.control & X87_MASKS &&
	       (native->state.vectors.status & X87_SUMMARY ||
		cleared_later(sequence, soft->state.rip));
}

/*
 * Of a compacted image XRSTOR wants all that it has room for, whatever XSTATE_BV says of it, and
 * outside 64-bit mode XSAVE wants a place for ZMM16 to ZMM31, of which it writes nothing; other
 * CPUs may not. (Intel SDM 1, "Operation of XRSTOR", leaves that open.)
 */
static bool more_wanted(const struct sequence *sequence, const struct outcome *native)
{
	struct decoded decoded;

	return (native->vector == VECTOR_PAGE_FAULT ||
		(sequence->segmented &&
		 (native->vector == VECTOR_STACK || native->vector == VECTOR_PROTECTION))) &&
	       decode_at(sequence, native->state.rip, &decoded) && form_is_xsave(&decoded.insn) &&
	       (sequence->compat || form_is_xrstor(&decoded.insn));
}

/*
 * A masked store may fault for bytes that it does not store, and before one that it does. (Intel
 * SDM 2A, "MASKMOVDQU".)
 */
static bool masked_off(const struct sequence *sequence, const struct outcome *native,
		       const struct outcome *soft)
{
	struct decoded decoded;

	return (native->state.rip != soft->state.rip || native->cr2 != soft->cr2) &&
	       decode_at(sequence, native->state.rip, &decoded) &&
	       (decoded.insn.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
		decoded.insn.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU ||
		decoded.insn.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ);
}

/* Images of x87 state are moved in pieces, and it is nobody's business which of them faults first.
 */
static bool in_pieces(const struct sequence *sequence, const struct outcome *native,
		      const struct outcome *soft)
{
	const u32 faults = 1u << VECTOR_STACK | 1u << VECTOR_PROTECTION | 1u << VECTOR_PAGE_FAULT;
	struct decoded decoded;

	if (!sequence->segmented || native->vector > VECTOR_PAGE_FAULT ||
	    soft->vector > VECTOR_PAGE_FAULT || native->state.rip != soft->state.rip ||
	    !(faults >> native->vector & faults >> soft->vector & 1) ||
	    !decode_at(sequence, native->state.rip, &decoded))
		return false;
	switch (decoded.insn.mnemonic) {
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_XSAVE:
	case ZYDIS_MNEMONIC_XSAVEC:
	case ZYDIS_MNEMONIC_XSAVEOPT:
	case ZYDIS_MNEMONIC_XRSTOR:
		return true;
	default:
		return false;
	}
}

/* An image may wrap at the end of 16 bits; which of its ends the silicon touches first varies. */
static bool same_in_64k(u64 a, u64 b, const struct leniency *leniency)
{
	return leniency->nearby == NEARBY_IMAGE &&
	       ((u16)(a - b) < NEARBY_IMAGE || (u16)(b - a) < NEARBY_IMAGE);
}

static bool address_same(u64 a, u64 b, const struct leniency *leniency)
{
	return a == b || same_in_64k(a, b, leniency) ||
	       (leniency->nearby && (a / PAGE_SIZE == b / PAGE_SIZE || a - b < leniency->nearby ||
				     b - a < leniency->nearby));
}

static bool fault_same(const struct outcome *a, const struct outcome *b,
		       const struct leniency *leniency)
{
	return a->vector == b->vector && error_compared(a) == error_compared(b) &&
	       (a->vector != VECTOR_PAGE_FAULT || address_same(a->cr2, b->cr2, leniency));
}

/* As an MMX instruction makes it: register 0 on top, none empty. */
static struct vectors with_mmx(const struct vectors *vectors)
{
	struct vectors mmx = *vectors;
	unsigned top = vectors->status >> 11 & 7;

	for (unsigned i = 0; i < 8; i++)
		memcpy(mmx.x87[(i + top) % 8], vectors->x87[i], sizeof(mmx.x87[0]));
	mmx.status &= ~(7 << 11);
	mmx.tags = 0xff;
	return mmx;
}

static bool vectors_same(const struct vectors *native, const struct vectors *soft,
			 const struct leniency *leniency)
{
	struct vectors other = leniency->top ? with_mmx(soft) : *soft;

	if (leniency->top && native->tags == soft->tags)
		other.tags = soft->tags;
	if (leniency->mxcsr)
		other.mxcsr = native->mxcsr;
	return !memcmp(native, soft, sizeof(*native)) || !memcmp(native, &other, sizeof(other));
}

static bool gprs_same(const struct sequence *sequence, const u64 *a, const u64 *b)
{
	if (!sequence->compat)
		return !memcmp(a, b, 16 * sizeof(*a));
	for (unsigned i = 0; i < 8; i++)
		if ((u32)a[i] != (u32)b[i])
			return false;
	return true;
}

static bool same(const struct sequence *sequence, const struct outcome *native,
		 const struct outcome *soft, const struct leniency *leniency)
{
	const struct state *a = &native->state, *b = &soft->state;

	return fault_same(native, soft, leniency) && gprs_same(sequence, a->gpr, b->gpr) &&
	       a->rip == b->rip && !((a->rflags ^ b->rflags) & FLAGS_COMPARED) &&
	       a->fs_base == b->fs_base && a->gs_base == b->gs_base &&
	       (leniency->vectors || vectors_same(&a->vectors, &b->vectors, leniency)) &&
	       (leniency->memory || !memcmp(native->memory, soft->memory, sizeof(native->memory)));
}

/*
 * A repeated string instruction that ran over its own bytes: when the CPU looks at them again is up
 * to it. Where RDI ends says that it was in the code.
 */
static bool ran_over_itself(const struct sequence *sequence, const struct outcome *native)
{
	const u64 rdi = native->state.gpr[7];

	for (unsigned i = 0; i < sequence->count; i++) {
		const u64 at = CODE_BASE + sequence->items[i].offset;
		struct decoded decoded;

		if (decode_at(sequence, at, &decoded) && decoded.class == FORM_STRING &&
		    decoded.insn.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
					       ZYDIS_ATTRIB_HAS_REPNE) &&
		    rdi - CODE_BASE < CODE_PAGES * PAGE_SIZE)
			return true;
	}
	return false;
}

/*
 * MOVBE with a DS prefix, 66 and REX.W: an address through rbp that is not canonical is #GP to a
 * Xeon, and #SS to it without any one of them.
 */
static bool forgot_stack(const struct sequence *sequence, const struct outcome *native,
			 const struct outcome *soft)
{
	struct decoded decoded;

	return native->vector == VECTOR_PROTECTION && soft->vector == VECTOR_STACK &&
	       native->state.rip == soft->state.rip &&
	       decode_at(sequence, native->state.rip, &decoded) &&
	       decoded.insn.mnemonic == ZYDIS_MNEMONIC_MOVBE && decoded.insn.raw.prefix_count > 2;
}

bool outcomes_same(const struct sequence *sequence, const struct outcome *native,
		   const struct outcome *soft)
{
	static const struct leniency none;
	struct leniency leniency;

	if (same(sequence, native, soft, &none))
		return true;
	leniency = leniency_of(sequence, native->state.rip);
	return same(sequence, native, soft, &leniency) || computed_first(sequence, native, soft) ||
	       masked_off(sequence, native, soft) || more_wanted(sequence, native) ||
	       ran_over_itself(sequence, native) || in_pieces(sequence, native, soft) ||
	       forgot_stack(sequence, native, soft);
}

static const char *const gpr_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					  "r8",	 "r9",	"r10", "r11", "r12", "r13", "r14", "r15"};

static void print_bytes(const u8 *bytes, unsigned length)
{
	for (unsigned i = length; i-- > 0;)
		printf("%02x", bytes[i]);
}

void sequence_print(const struct sequence *sequence)
{
	ZydisDecoder decoder;
	ZydisFormatter formatter;

	decoder_init(&decoder, sequence);
	ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	for (unsigned i = 0; i < sequence->count; i++) {
		const struct item *item = &sequence->items[i];
		ZydisDecodedInstruction insn;
		ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
		char text[160] = "?";

		if (item->dropped)
			continue;
		if (!ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, item->bytes, item->length, &insn,
							operands)))
			ZydisFormatterFormatInstruction(
				&formatter, &insn, operands, insn.operand_count_visible, text,
				sizeof(text), CODE_BASE + item->offset, NULL);
		printf("    %2u %llx  %-60s ", i, CODE_BASE + item->offset, text);
		for (unsigned byte = 0; byte < item->length; byte++)
			printf("%02x", item->bytes[byte]);
		printf("\n");
	}
}

static void print_segments(const struct sequence *sequence)
{
	static const char *const names[LOCALS] = {"es", "cs", "ss", "ds"};

	for (unsigned i = 0; i < LOCALS; i++) {
		const struct local *local = &sequence->local[i];

		printf("    %s: base=%x limit=%x%s%s%s\n", names[i], local->base, local->limit,
		       local->down ? " down" : "", local->fixed ? " fixed" : "",
		       local->big ? " big" : "");
	}
}

static void print_initial(const struct sequence *sequence)
{
	const struct state *state = &sequence->initial;

	if (sequence->segmented)
		print_segments(sequence);

	for (unsigned i = 0; i < 16; i++)
		printf("%s%s=%" PRIx64 "%s", i % 4 ? " " : "    ", gpr_names[i], state->gpr[i],
		       i % 4 == 3 ? "\n" : "");
	printf("    rflags=%" PRIx64 " fs=%" PRIx64 " gs=%" PRIx64
	       " mxcsr=%x control=%x status=%x tags=%x\n",
	       state->rflags, state->fs_base, state->gs_base, state->vectors.mxcsr,
	       state->vectors.control, state->vectors.status, state->vectors.tags);
}

static void differ(const char *what, u64 native, u64 soft)
{
	if (native != soft)
		printf("    %-8s native %-18" PRIx64 " soft %" PRIx64 "\n", what, native, soft);
}

static void differ_bytes(const char *what, unsigned number, const u8 *initial, const u8 *native,
			 const u8 *soft, unsigned length)
{
	if (!memcmp(native, soft, length))
		return;
	printf("    %s%u: was ", what, number);
	print_bytes(initial, length);
	printf("\n        native ");
	print_bytes(native, length);
	printf("\n        soft   ");
	print_bytes(soft, length);
	printf("\n");
}

static void print_memory(const struct sequence *sequence, const struct outcome *native,
			 const struct outcome *soft)
{
	unsigned lines = 0;

	for (unsigned page = 0; page < DATA_PAGES; page++)
		for (unsigned at = 0; at < PAGE_SIZE; at += 8) {
			if (!memcmp(&native->memory[page][at], &soft->memory[page][at], 8))
				continue;
			if (++lines > 8)
				continue;
			printf("    [%" PRIx64 "] was ", pages[CODE_PAGES + page].address + at);
			print_bytes(&sequence->memory[page][at], 8);
			printf(" native ");
			print_bytes(&native->memory[page][at], 8);
			printf(" soft ");
			print_bytes(&soft->memory[page][at], 8);
			printf("\n");
		}
	if (lines > 8)
		printf("    and %u more words of memory\n", lines - 8);
}

static void print_vectors(const struct vectors *initial, const struct vectors *native,
			  const struct vectors *soft)
{
	differ("mxcsr", native->mxcsr, soft->mxcsr);
	differ("control", native->control, soft->control);
	differ("status", native->status, soft->status);
	differ("tags", native->tags, soft->tags);
	for (unsigned i = 0; i < 16; i++) {
		differ_bytes("xmm", i, initial->low[i], native->low[i], soft->low[i], 16);
		differ_bytes("ymm high ", i, initial->high[i], native->high[i], soft->high[i], 16);
		differ_bytes("zmm high ", i, initial->higher[i], native->higher[i], soft->higher[i],
			     32);
		differ_bytes("zmm16+", i, initial->upper[i], native->upper[i], soft->upper[i], 64);
	}
	for (unsigned i = 0; i < 8; i++)
		differ_bytes("k", i, (const u8 *)&initial->mask[i], (const u8 *)&native->mask[i],
			     (const u8 *)&soft->mask[i], 8);
	for (unsigned i = 0; i < 8; i++)
		differ_bytes("st", i, initial->x87[i], native->x87[i], soft->x87[i], 10);
}

static void print_end(const char *who, const struct outcome *outcome)
{
	printf("    %s: ", who);
	if (outcome->vector == END_ENDLESS)
		printf("did not end\n");
	else if (outcome->vector == END_SYSCALL)
		printf("made a system call\n");
	else
		printf("exception %u, error %x, cr2 %" PRIx64 "\n", outcome->vector, outcome->error,
		       outcome->vector == VECTOR_PAGE_FAULT ? outcome->cr2 : 0);
}

void outcomes_print(const struct sequence *sequence, const struct outcome *native,
		    const struct outcome *soft)
{
	const struct state *a = &native->state, *b = &soft->state;

	print_initial(sequence);
	if (fault_same(native, soft, &(struct leniency){0})) {
		print_end("both", native);
	} else {
		print_end("native", native);
		print_end("soft", soft);
	}
	for (unsigned i = 0; i < 16; i++)
		if (!sequence->compat)
			differ(gpr_names[i], a->gpr[i], b->gpr[i]);
		else if (i < 8)
			differ(gpr_names[i], (u32)a->gpr[i], (u32)b->gpr[i]);
	differ("rip", a->rip, b->rip);
	differ("rflags", a->rflags & FLAGS_COMPARED, b->rflags & FLAGS_COMPARED);
	differ("fs base", a->fs_base, b->fs_base);
	differ("gs base", a->gs_base, b->gs_base);
	print_vectors(&sequence->initial.vectors, &a->vectors, &b->vectors);
	print_memory(sequence, native, soft);
}
