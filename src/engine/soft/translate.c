/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translator: a guest's basic block becomes a host's.
 *
 * It knows what few instructions do, and of all others only where their operands
 * live. Registers are renamed where the guest's cannot be in the host's of the same
 * name, a memory operand becomes r9 + r10 behind a probe of the TLB, and the rest
 * of the instruction is copied bit by bit. The probes and all that we add leave the
 * flags alone.
 *
 * What is rare - TLB misses, jumps that are not linked, system instructions - is an
 * event: a call with a struct site behind it, out of line where possible.
 *
 * Tour 6.220: A block of theirs becomes a block of ours
 */
#include "engine/soft/translation.h"

/* Intel SDM volume 2, "VEX Instruction Exception Classes": #UD in real and virtual-8086 mode. */
static bool encoding_allowed(struct translation *t)
{
	if (!(t->mode & MODE_NO_VEX) || t->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return true;
	put_raise(t, VECTOR_UD);
	return false;
}

/* May the unit be used? If not, put what happens instead. */
static bool unit_allowed(struct translation *t, enum form_unit unit)
{
	if (unit == UNIT_INTEGER)
		return true;
	if ((unit == UNIT_MMX && t->mode & MODE_NO_MMX) ||
	    (unit == UNIT_SSE && t->mode & MODE_NO_SSE) ||
	    (unit == UNIT_AVX && t->mode & MODE_NO_AVX) ||
	    (unit == UNIT_AVX512 && t->mode & MODE_NO_AVX512)) {
		put_raise(t, VECTOR_UD);
		return false;
	}
	if (t->mode & (unit == UNIT_WAIT ? MODE_NO_WAIT : MODE_NO_FPU)) {
		put_raise(t, VECTOR_NM);
		return false;
	}
	return true;
}

/*
 * One function for each kind of instruction: half of the translator is behind FORM_PASS, and
 * half of the rest behind FORM_HANDLER. False: it is not known.
 *
 * Tour 6.221: What becomes of an instruction
 */
static bool put_form(struct translation *t, struct form *form)
{
	switch (form->kind) {
	case FORM_PASS:
		return put_pass(t);
	case FORM_NOTHING:
		return true;
	case FORM_TOUCH:
		put_address(t, &t->op[0], 0);
		end_access(t, begin_access(t, 1, false, is_stack(&t->op[0]) ? SITE_STACK : 0));
		return true;
	case FORM_HANDLER:
		if (!put_system(t, form) && !put_string(t, form))
			put_handler(t, form);
		return true;
	case FORM_LEA:
		put_lea(t);
		return true;
	case FORM_MOV_OFFSET:
		put_mov_offset(t);
		return true;
	case FORM_BIT_STRING:
		put_bit_string(t);
		return true;
	case FORM_XLAT:
		put_xlat(t);
		return true;
	case FORM_ZERO:
		put_zero(t);
		return true;
	case FORM_PUSH:
		put_push(t);
		return true;
	case FORM_POP:
		put_pop(t);
		return true;
	case FORM_LEAVE:
		put_leave(t);
		return true;
	case FORM_CALL:
		put_call(t);
		return true;
	case FORM_RET:
		put_ret(t);
		return true;
	case FORM_JMP:
		put_jmp(t);
		return true;
	case FORM_JCC:
		put_jcc(t);
		return true;
	case FORM_LOOP:
		put_loop(t);
		return true;
	case FORM_UNKNOWN:
		break;
	}
	return false;
}

static void put_instruction(struct translation *t, struct form form)
{
	t->unit = form.unit;
	t->segment = NO_SEGMENT;
	if (!encoding_allowed(t) || !unit_allowed(t, form.unit))
		return;
	if (!put_form(t, &form)) {
		put_raise(t, VECTOR_UD);
		return;
	}
	t->ended = form.last && !t->leads;
}

/* Ways that are taken often. */
static bool is_beside(const struct late *late)
{
	return late->kind == LATE_CALL || late->kind == LATE_LEAVE;
}

static void put_beside(struct translation *t)
{
	for (unsigned i = 0; i < t->lates; i++) {
		if (!is_beside(&t->late[i]))
			continue;
		emit_set_jump(t->late[i].jump, t->e.at);
		put_late_flow(t, &t->late[i]);
	}
	unit_put_entries(t);
}

static void put_late(struct translation *t)
{
	struct emit *e = &t->e;

	for (unsigned i = 0; i < t->lates; i++) {
		struct late *late = &t->late[i];

		if (is_beside(late))
			continue;
		emit_set_jump(late->jump, e->at);
		if (late->kind == LATE_LEADER) {
			put_plain_copy(t, late);
			continue;
		}
		if (late->kind != LATE_ACCESS) {
			put_late_flow(t, late);
			continue;
		}
		put_site(e, late->write ? SITE_STORE : SITE_LOAD, late->flags, late->size,
			 late->offset, late->masked);
		emit_set_jump(emit_jmp(e), late->begin);
		if (!late->write)
			continue;
		put_mark(t, late->offset);
		for (const u8 *at = late->begin; at < late->end; at++)
			emit_u8(e, *at);
		put_site(e, SITE_COMMIT, late->flags, 0, late->next, 0);
		emit_set_jump(emit_jmp(e), late->end);
	}
	unit_put_stubs(t);
}

/* The same, where the cache has room for it, or else behind the block. */
static void put_aside(struct translation *t)
{
	const struct cache *cache = t->vcpu->cache;
	struct block *block = t->block;

	if (cache->aside == cache->size) {
		put_late(t);
		block->size = t->e.at + t->e.shift - block->code;
		return;
	}
	t->e.at = cache->write + cache->aside + cache->aside_used;
	block->aside = t->e.at + t->e.shift;
	put_late(t);
	block->aside_size = t->e.at + t->e.shift - block->aside;
}

/* The guest's bytes as they are now: it, or a device, may change them while we look. */
struct window {
	u8 bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
	unsigned length;
};

/*
 * The bytes from this offset of the page on, as far as one instruction can reach.
 *
 * Tour 6.222, 1 item: Bytes that may change while we look
 */
static void look(struct window *window, const u8 *page, const u8 *page2, unsigned offset)
{
	window->length = 0;
	while (window->length < ZYDIS_MAX_INSTRUCTION_LENGTH) {
		unsigned at = offset + window->length;

		if (at < PAGE_SIZE)
			window->bytes[window->length] = page[at];
		else if (page2)
			window->bytes[window->length] = page2[at - PAGE_SIZE];
		else
			break;
		window->length++;
	}
}

/* A limit of the architecture: longer ones are #GP, and Zydis says so by a status of its own. */
static void put_undecoded(struct translation *t, ZyanStatus status)
{
	put_raise(t, status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ? VECTOR_GP : VECTOR_UD);
}

/* The next instruction. False: it does not fit into what is left of this page. */
static bool decode_next(struct translation *t, const ZydisDecoder *decoder, const u8 *page,
			const u8 *page2, int32_t offset)
{
	struct decoded *d = &t->decoded[t->decodeds];
	struct window window;

	look(&window, page, page2, offset);
	d->status = ZydisDecoderDecodeFull(decoder, window.bytes, window.length, &d->zi, d->op);
	if (d->status == ZYDIS_STATUS_NO_MORE_DATA && !page2)
		return false;
	__builtin_memcpy(d->bytes, window.bytes, sizeof(d->bytes));
	d->length = ZYAN_SUCCESS(d->status) ? d->zi.length : window.length;
	d->form = (struct form){.last = true};
	if (ZYAN_SUCCESS(d->status))
		d->form = form_of(&d->zi, d->op);
	d->offset = offset;
	d->next = offset + d->length;
	d->plain = d->behind = NULL;
	for (unsigned k = 0; k < DECODED_ACCESSES; k++)
		d->access[k].group = NULL;
	t->decodeds++;
	return true;
}

/*
 * A run of instructions, up to one that C executes or behind which nothing belongs to the block.
 * False: the one behind them does not fit into what is left of this page.
 *
 * Tour 6.223
 */
static bool decode_run(struct translation *t, const ZydisDecoder *decoder, const u8 *page,
		       const u8 *page2, unsigned most)
{
	const struct decoded *d;
	int32_t next = t->next;

	do {
		if (!decode_next(t, decoder, page, page2, next))
			return false;
		d = &t->decoded[t->decodeds - 1];
		next = d->next;
	} while (d->form.kind != FORM_HANDLER && !d->form.last && t->decodeds < most &&
		 next < (int32_t)PAGE_SIZE && !unit_wants(t, next));
	return true;
}

void put_decoded(struct translation *t, unsigned n)
{
	struct decoded *d = &t->decoded[n];
	bool spoils;

	t->current = n;
	t->access = 0;
	t->bytes = d->bytes;
	t->offset = d->offset;
	if (!ZYAN_SUCCESS(d->status)) {
		put_undecoded(t, d->status);
		return;
	}
	t->next = d->next;
	t->zi = d->zi;
	for (unsigned i = 0; i < d->zi.operand_count; i++)
		t->op[i] = d->op[i];
	spoils = spoils_addend(d);
	if (spoils)
		t->held = NULL;
	put_instruction(t, d->form);
	if (spoils)
		t->held = NULL;
}

static void put_run(struct translation *t, unsigned begin)
{
	if (unit_leads(t))
		unit_begin_part(t);
	for (unsigned n = begin; n < t->decodeds && !t->ended; n++) {
		struct decoded *d = &t->decoded[n];

		t->part->length += d->length;
		t->part->insns += ZYAN_SUCCESS(d->status);
		put_decoded(t, n);
		t->next = d->next;
		d->behind = t->e.at;
	}
}

static unsigned most_instructions(const struct translation *t)
{
	return t->mode & (MODE_CROSSING | MODE_SINGLE) ? 1 : BLOCK_INSNS;
}

bool another_follows(const struct translation *t)
{
	return t->current + 1 < most_instructions(t) && !unit_leads(t) &&
	       t->next + ZYDIS_MAX_INSTRUCTION_LENGTH <= (int32_t)PAGE_SIZE;
}

/*
 * Instructions are read ahead, up to one behind which all bets are off, before the first of
 * them is written: group.c wants to see which of their accesses are neighbours.
 *
 * Tour 6.224: Read a run, write a run
 */
static void put_body(struct translation *t, const u8 *page, const u8 *page2)
{
	ZydisDecoder decoder;
	unsigned most = most_instructions(t);
	bool fits = true;

	form_decoder(&decoder, t->mode);
	while (fits && t->decodeds < most && t->next < (int32_t)PAGE_SIZE) {
		unsigned begin = t->decodeds;

		if ((t->ended && !unit_leads(t)) || unit_ends(t))
			break;
		fits = decode_run(t, &decoder, page, page2, most);
		if (begin == t->decodeds)
			break;
		group_accesses(t, begin, t->decodeds);
		put_run(t, begin);
	}
	t->leads = false;
	if (t->ended)
		return;
	if (fits) {
		put_fall(t);
		return;
	}
	/* It crosses into the next page: a block of its own. */
	t->block->crosses = !t->decodeds;
	t->offset = t->next;
	put_site(&t->e, SITE_GO, 0, 0, t->offset, 0);
}

void translation_set_view(struct translation *t, enum view view)
{
	t->view = view;
	t->user = view == VIEW_USER;
	t->lookup = t->user ? STACK_BELOW
			    : offsetof(struct context, kernel) + view * sizeof(struct lookup);
	t->tlb = t->lookup + offsetof(struct lookup, tlb);
	t->jump = t->lookup + offsetof(struct lookup, jump);
	t->returns = t->lookup + offsetof(struct lookup, returns);
}

/*
 * The order is the point here. First the page is protected, so that from now on everybody who
 * writes to it has to tell us; then its bytes are read. Whoever overwrites them while we look
 * makes us drop the block again, but nobody can do so unnoticed.
 *
 * Tour 6.225: A block is made
 */
struct block *translate(struct vcpu *vcpu, u64 linear, u64 gpa, u64 gpa2, u32 mode)
{
	struct cache *cache = vcpu->cache;
	static __thread struct translation scratch;
	struct translation *t = &scratch;
	struct block *block;
	u64 began;

	cache_reserve(vcpu);
	cache_protect(vcpu, gpa);
	if (gpa2)
		cache_protect(vcpu, gpa2);
	began = clock_tsc();
	vectors_save(vcpu);
	block = cache_alloc(cache, sizeof(*block));
	t->vcpu = vcpu;
	t->block = block;
	t->linear = linear;
	t->mode = mode;
	t->wide = (mode & MODE_CODE) == MODE_CODE_64;
	t->flat = t->wide || mode & MODE_FLAT;
	translation_set_view(t, mode & MODE_VIEW);
	t->ended = false;
	t->held = NULL;
	t->lates = t->marks = t->decodeds = t->groups = 0;
	t->e = (struct emit){.at = cache->write + cache->used, .shift = cache->run - cache->write};
	t->offset = t->next = gpa % PAGE_SIZE;
	block->gpa = gpa;
	block->gpa2 = gpa2;
	block->mode = mode;
	block->offset = gpa % PAGE_SIZE;
	block->code = t->e.at + t->e.shift;
	put_page(t, block->offset);
	block->inner = t->e.at + t->e.shift;
	unit_begin(t);
	put_body(t, ram_at(vcpu->soft, align_down(gpa, PAGE_SIZE)),
		 gpa2 ? ram_at(vcpu->soft, gpa2) : NULL);
	put_beside(t);
	block->size = t->e.at + t->e.shift - block->code;
	put_aside(t);
	block->marks = t->marks;
	block->mark = cache_alloc(cache, t->marks * sizeof(struct mark));
	for (unsigned i = 0; i < t->marks; i++)
		block->mark[i] = t->mark[i];
	cache->used += align_up(block->size, 16);
	cache->aside_used += block->aside_size;
	if (block->crosses)
		block->length = PAGE_SIZE - block->offset;
	unit_add(t);
	vcpu->stats.blocks_translated++;
	for (unsigned i = 0; i < t->parts; i++)
		vcpu->stats.insns_translated += t->all[i]->insns;
	vcpu->stats.bytes_emitted += block->size + block->aside_size;
	vcpu->stats.ticks_translating += clock_tsc() - began;
	return block;
}
