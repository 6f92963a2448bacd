/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The blocks that one unit is made of.
 *
 * A block ends where the guest's code may go two ways. But one of them is mostly straight on, and
 * what comes there will be wanted soon: so it is translated at once, behind the block, and the two
 * need no jump between them. A unit is as many blocks as lie one behind the other in the
 * guest's memory, where each is reached from one before it: because that falls through, because a
 * call there returns to it, or because somebody in the unit jumps to it. Jumps inside the
 * unit are jumps of the host's, without a link, as far as they are known when the unit is made.
 *
 * All that is known of a block is known of each of them: it can be found, linked and dropped by
 * itself. A block that is dropped has others before it that fall through; they find
 * a jump where it was (cache.c: close_block()), to a stub that looks for what is there now. A unit
 * ends where a block begins that is in the cache already.
 *
 * Tour 6.280: Blocks that stay together
 */
#include "engine/soft/translation.h"

#define JUMP_LENGTH 5
#define NOP_OPCODE  0x90

void unit_begin(struct translation *t)
{
	t->part = t->all[0] = t->block;
	t->parts = 1;
	t->leads = t->loops = false;
	t->landing = NULL;
	for (unsigned i = 0; i < ARRAY_SIZE(t->wanted); i++)
		t->wanted[i] = 0;
}

bool unit_may_go_on(const struct translation *t)
{
	return t->flat && !(t->mode & (MODE_SINGLE | MODE_CROSSING)) &&
	       !without(t, WITHOUT_LINKS | WITHOUT_UNITS);
}

void unit_go_on(struct translation *t)
{
	if (unit_may_go_on(t))
		t->leads = true;
	else
		put_fall(t);
}

void unit_want(struct translation *t, int32_t target)
{
	t->wanted[target / 64] |= 1ull << target % 64;
}

bool unit_wants(const struct translation *t, int32_t offset)
{
	return offset < (int32_t)PAGE_SIZE && t->wanted[offset / 64] >> offset % 64 & 1 &&
	       unit_may_go_on(t);
}

bool unit_leads(const struct translation *t)
{
	return t->leads || unit_wants(t, t->next);
}

static u64 gpa_of(const struct translation *t, int32_t offset)
{
	return align_down(t->block->gpa, PAGE_SIZE) + offset;
}

bool unit_ends(const struct translation *t)
{
	return unit_leads(t) && cache_find(t->vcpu, gpa_of(t, t->next), 0, t->mode);
}

/* When the one before is dropped, its beginning becomes a jump: not ours, too. */
static void fill_up(struct translation *t)
{
	while (t->e.at + t->e.shift < t->part->inner + JUMP_LENGTH)
		emit_u8(&t->e, NOP_OPCODE);
}

/*
 * One block of the unit ends and another begins, straight on. The new one has an entry of its
 * own, since somebody else may jump there; what has to be found out at each entry, and is
 * known to who falls through, is before `inner`.
 *
 * Tour 6.281
 */
void unit_begin_part(struct translation *t)
{
	struct block *part = cache_alloc(t->vcpu->cache, sizeof(*part));

	fill_up(t);
	part->gpa = gpa_of(t, t->next);
	part->offset = t->next;
	part->mode = t->mode;
	part->inner = t->e.at + t->e.shift;
	part->code = t->landing;
	t->part = t->all[t->parts++] = part;
	t->leads = t->ended = false;
	t->landing = NULL;
	t->held = NULL;
	translation_set_view(t, t->mode & MODE_VIEW);
}

struct block *unit_part_at(const struct translation *t, int32_t offset)
{
	for (unsigned i = 0; i < t->parts; i++)
		if (t->all[i]->offset == offset)
			return t->all[i];
	return NULL;
}

void unit_put_entries(struct translation *t)
{
	struct emit *e = &t->e;

	for (unsigned i = 0; i < t->parts; i++) {
		struct block *part = t->all[i];

		if (part->code)
			continue;
		part->code = e->at + e->shift;
		put_page(t, part->offset);
		emit_set_jump(emit_jmp(e), part->inner - e->shift);
	}
}

void unit_put_stubs(struct translation *t)
{
	for (unsigned i = !t->loops; i < t->parts; i++) {
		struct block *part = t->all[i];

		/* Where the distance of the jump would be that it may become. */
		part->entry.distance = part->inner - t->e.shift + 1;
		put_stub(t, &part->entry, part->offset);
	}
}

/* What is aside has the name of the first block, and what is behind the last that of the last. */
static void name_code(const struct translation *t)
{
	const struct block *block = t->block;
	const u8 *from = block->code;

	for (unsigned i = 0; i < t->parts; i++) {
		bool last = i + 1 == t->parts;
		const u8 *to = last ? block->code + block->size : t->all[i + 1]->inner;
		u64 linear = t->linear + t->all[i]->offset - block->offset;

		perf_map_add(t->vcpu, linear, t->mode, from, to - from);
		from = to;
	}
	if (block->aside_size)
		perf_map_add(t->vcpu, t->linear, t->mode, block->aside, block->aside_size);
}

void unit_add(struct translation *t)
{
	cache_add(t->vcpu, t->block);
	for (unsigned i = 1; i < t->parts; i++)
		cache_add_part(t->vcpu, t->all[i]);
	name_code(t);
}
