/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * REP STOS and REP MOVS in translated code, where all of it lies in one page on each side and goes
 * upwards: then it is the host's own instruction on host addresses. Everything else is left to
 * string.c: the way there costs more than most kernels' strings, which are short.
 *
 * What is asked of the TLB is as in operand.c, with one more question: the length is the guest's
 * and may be anything, so it has to be less than a page of elements. Each answer is shifted until
 * only what is wrong is left, and what is left is added up, which cannot wrap. That the end is in
 * the page of the tag says that the beginning is, too: pages with the same entry are farther apart
 * than such a length. Called by translate.c, instead of put_handler().
 *
 * Tour 6.810: Strings that are short
 */
#include "engine/soft/paging.h"
#include "engine/soft/translation.h"

#define OPCODE_MOVSB 0xa4
#define OPCODE_STOSB 0xaa
#define PREFIX_REP   0xf3
#define PREFIX_66    0x66

static bool is_for_us(const struct translation *t)
{
	const ZydisDecodedInstruction *zi = &t->zi;

	return t->wide && zi->address_width == 64 && repeat_prefix(zi) &&
	       !(t->mode & (MODE_SINGLE | MODE_ALIGN)) && !t->vcpu->soft->checked &&
	       !(zi->attributes & (ZYDIS_ATTRIB_HAS_SEGMENT_FS | ZYDIS_ATTRIB_HAS_SEGMENT_GS)) &&
	       !without(t, WITHOUT_STRINGS);
}

/* rcx += what is left of that register when an offset in a page is taken away. Uses r9. */
static void put_excess(struct emit *e, unsigned reg)
{
	emit_shrx(e, H_ADDRESS, reg, H_RSP);
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, 0);
}

/* As far as the longest reaches, from its first byte. */
_Static_assert(TLB_REACH *PAGE_SIZE > PAGE_SIZE * 8, "pages with the same entry");

/*
 * r10 = the addend of the page that `pointer` is in; rcx = 0 if so many elements from there on are
 * in it as the guest's rcx says, for reading or for writing; or if these are too many.
 */
static void put_side(struct translation *t, unsigned pointer, bool write, unsigned size)
{
	struct emit *e = &t->e;

	put_lookup(t, pointer, write);
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, pointer, 1, 0);
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_GUEST_RCX, size, -1);
	emit_shrx(e, H_SCRATCH, H_SCRATCH, H_RSP);
}

static u8 *put_question(struct emit *e)
{
	u8 *yes = emit_jrcxz(e), *no = emit_jmp(e);

	emit_jrcxz_here(e, yes);
	return no;
}

/* To the host's address, or back from it. */
static void put_distance(struct emit *e, unsigned pointer, unsigned distance, bool back)
{
	if (back)
		emit_not(e, distance);
	emit_lea(e, true, pointer, pointer, distance, 1, back);
}

static void put_native(struct emit *e, bool moves, unsigned size)
{
	emit_mov(e, H_RCX, H_GUEST_RCX);
	if (size == 2)
		emit_u8(e, PREFIX_66);
	emit_u8(e, PREFIX_REP);
	if (size == 8)
		emit_rex(e, true, 0, 0, 0);
	emit_u8(e, (moves ? OPCODE_MOVSB : OPCODE_STOSB) + (size > 1));
	emit_mov(e, H_GUEST_RCX, H_RCX);
}

bool put_string(struct translation *t, const struct form *form)
{
	struct emit *e = &t->e;
	bool moves = form->handler == string_movs;
	unsigned size = t->zi.operand_width / 8;
	u8 *elsewhere[2], *done;

	if ((!moves && form->handler != string_stos) || !is_for_us(t))
		return false;
	if (moves) {
		put_side(t, H_RSI, false, size);
		elsewhere[1] = put_question(e);
		emit_store_gs(e, CTX_SPARE + 8, H_ADDEND);
	}
	put_side(t, H_RDI, true, size);
	put_excess(e, H_GUEST_RCX);
	/* Downwards the step is negative. */
	emit_load_gs(e, H_ADDRESS, CTX_STEP + 8 * __builtin_ctz(size));
	put_excess(e, H_ADDRESS);
	elsewhere[0] = put_question(e);
	if (moves)
		emit_load_gs(e, H_ADDRESS, CTX_SPARE + 8);
	if (moves)
		put_distance(e, H_RSI, H_ADDRESS, false);
	put_distance(e, H_RDI, H_ADDEND, false);
	put_native(e, moves, size);
	if (moves)
		put_distance(e, H_RSI, H_ADDRESS, true);
	put_distance(e, H_RDI, H_ADDEND, true);
	done = emit_jmp(e);
	emit_set_jump(elsewhere[0], e->at);
	if (moves)
		emit_set_jump(elsewhere[1], e->at);
	put_handler(t, form);
	emit_set_jump(done, e->at);
	return true;
}
