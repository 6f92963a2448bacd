/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One probe of the TLB for several accesses: which instructions of a block go to the same place.
 *
 * A function's first instructions push registers side by side, and fields of a structure are read
 * through the same pointer. Where addresses differ by what is known, the first access (the leader)
 * asks for all bytes that the group will touch: if they are in one page, and may be accessed as the
 * group does, it leaves the addend in the context, where the others (followers) find it. They ask
 * nobody.
 *
 * What it relies on: between the leader and the last follower nobody takes a tag away. Tags go when
 * the guest asks for it, by an instruction that C executes; when another vCPU wants to make code of
 * the page, and has got our lock, which we hold but in a few events; and when this one does,
 * between blocks. So a group ends where an instruction is C's (a run ends there), and before one
 * that locks: in two pages it stops all others, and for that lets go of the lock. Of the other
 * events in a group, those of memory, none forgets anything.
 *
 * If the leader is told no, it goes on in a copy of these instructions, behind the block, in which
 * each asks for itself, up to where no group is left that has begun: so each fault is found where
 * it belongs, and what crosses a page, is a device or has code is dealt with as ever. The leader is
 * the first access of its instruction, before which that has changed nothing.
 *
 * Tour 6.410: One question for several accesses
 */
#include "engine/soft/translation.h"

/* From the first byte of a group to the last: the more, the likelier there is a page's end between.
 */
#define GROUP_REACH 512
#define GROUP_BYTES 64 /* of an access: a vector */

/* What a register, or what stands for one, holds: something that was there before, and so much. */
#define VALUE_RIP  0xfffe /* the address of the page that the code is in */
#define VALUE_ZERO 0xffff

struct value {
	u16 id;
	s64 more;
};

struct plan {
	struct translation *t;
	struct value gpr[16];
	u16 ids;	/* values that were made so far */
	unsigned begin; /* the first group that may get members */
};

/* ------------------------------------------------------------------ which accesses */

static struct value value_of(const struct plan *plan, ZydisRegister reg)
{
	if (reg == ZYDIS_REGISTER_NONE)
		return (struct value){VALUE_ZERO, 0};
	return plan->gpr[gpr_of(reg)];
}

/* Is it open for this access, at that distance from its values? */
static bool takes(const struct group *group, const struct group *access)
{
	return group->base == access->base && group->index == access->index &&
	       group->scale == access->scale &&
	       MAX(group->high, access->high) - MIN(group->low, access->low) <= GROUP_REACH;
}

/* Access number k of instruction n is like that: it joins a group, or founds one. */
static void add_access(struct plan *plan, unsigned n, unsigned k, const struct group *access)
{
	struct translation *t = plan->t;
	struct decoded_access *decoded = &t->decoded[n].access[k];
	struct group *group = NULL;

	for (unsigned i = plan->begin; i < t->groups; i++)
		if (takes(&t->group[i], access))
			group = &t->group[i];
	if (!group) {
		if (k || t->groups == ARRAY_SIZE(t->group))
			return;
		group = &t->group[t->groups++];
		*group = *access;
		group->at = access->low;
		group->leader = n;
	}
	group->low = MIN(group->low, access->low);
	group->high = MAX(group->high, access->high);
	group->write |= access->write;
	group->last = n;
	group->members++;
	decoded->group = group;
	decoded->size = access->high - access->low;
	decoded->write = access->write;
}

static void add_stack(struct plan *plan, unsigned n, unsigned k, struct value at, unsigned size,
		      bool write)
{
	add_access(plan, n, k,
		   &(struct group){.base = at.id,
				   .index = VALUE_ZERO,
				   .low = at.more,
				   .high = at.more + size,
				   .write = write});
}

/* Segments that have a base, addresses that are cut off, and what a mask takes parts of: never. */
static bool is_simple(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *operand)
{
	unsigned segment = segment_of(operand->mem.segment);

	return operand->mem.type == ZYDIS_MEMOP_TYPE_MEM && zi->address_width == 64 &&
	       segment != FS && segment != GS && operand->size &&
	       operand->size / 8 <= GROUP_BYTES &&
	       !(zi->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && zi->raw.evex.aaa) &&
	       !(zi->mnemonic == ZYDIS_MNEMONIC_MOVSXD && zi->operand_width == 16);
}

static void add_operand(struct plan *plan, unsigned n, const ZydisDecodedOperand *operand)
{
	const struct decoded *d = &plan->t->decoded[n];
	struct value base, index = value_of(plan, operand->mem.index);
	s64 low = operand->mem.disp.value;
	u8 scale = operand->mem.scale;

	if (!is_simple(&d->zi, operand))
		return;
	if (operand->mem.base == ZYDIS_REGISTER_RIP)
		base = (struct value){VALUE_RIP, d->next};
	else
		base = value_of(plan, operand->mem.base);
	low += base.more + index.more * scale;
	add_access(plan, n, 0,
		   &(struct group){.base = base.id,
				   .index = index.id,
				   .scale = index.id == VALUE_ZERO ? 0 : scale,
				   .low = low,
				   .high = low + operand->size / 8,
				   .write = operand_writes(operand)});
}

static const ZydisDecodedOperand *memory_of(const struct decoded *d)
{
	for (unsigned i = 0; i < d->zi.operand_count_visible; i++)
		if (d->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return &d->op[i];
	return NULL;
}

/* In the order in which begin_access() will be asked for them. */
static void add_accesses(struct plan *plan, unsigned n)
{
	const struct decoded *d = &plan->t->decoded[n];
	const ZydisDecodedOperand *memory = memory_of(d);
	struct value rsp = plan->gpr[RSP], below = rsp;
	unsigned size = d->zi.operand_width / 8;

	below.more -= size;
	switch (d->form.kind) {
	case FORM_PASS:
		if (memory && !locks(&d->zi))
			add_operand(plan, n, memory);
		return;
	case FORM_PUSH:
	case FORM_CALL:
		if (memory)
			add_operand(plan, n, memory);
		add_stack(plan, n, !!memory, below, size, true);
		return;
	case FORM_JMP:
		if (memory)
			add_operand(plan, n, memory);
		return;
	case FORM_POP:
	case FORM_RET:
		add_stack(plan, n, 0, rsp, size, false);
		return;
	case FORM_LEAVE:
		add_stack(plan, n, 0, plan->gpr[RBP], size, false);
		return;
	default:
		return;
	}
}

/* ------------------------------------------------------------------ what registers hold */

static struct value new_value(struct plan *plan)
{
	return (struct value){plan->ids++, 0};
}

/* The value of a register of 64 bits that is this operand, or a new one. */
static struct value operand_value(struct plan *plan, const ZydisDecodedOperand *operand)
{
	unsigned gpr = operand_gpr(operand);

	return gpr != NO_REGISTER && operand->size == 64 ? plan->gpr[gpr] : new_value(plan);
}

/* What the first operand will be, a register of 64 bits. */
static struct value result(struct plan *plan, const struct decoded *d)
{
	const ZydisDecodedOperand *to = &d->op[0], *from = &d->op[1];
	bool immediate = from->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	struct value value;

	switch (d->zi.mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		return operand_value(plan, from);
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		if (!immediate)
			break;
		value = operand_value(plan, to);
		value.more += d->zi.mnemonic == ZYDIS_MNEMONIC_ADD
				      ? (int32_t)from->imm.value.u
				      : -(s64)(int32_t)from->imm.value.u;
		return value;
	case ZYDIS_MNEMONIC_LEA:
		if (from->mem.index || gpr_of(from->mem.base) == NO_REGISTER ||
		    d->zi.address_width != 64)
			break;
		value = value_of(plan, from->mem.base);
		value.more += from->mem.disp.value;
		return value;
	default:
		break;
	}
	return new_value(plan);
}

static void follow_registers(struct plan *plan, const struct decoded *d)
{
	struct value first = {0}, rsp = plan->gpr[RSP], rbp = plan->gpr[RBP];
	unsigned to = operand_gpr(&d->op[0]), size = d->zi.operand_width / 8;
	bool whole = to != NO_REGISTER && d->op[0].size == 64 &&
		     (d->form.kind == FORM_PASS || d->form.kind == FORM_LEA);

	if (whole)
		first = result(plan, d);
	for (unsigned i = 0; i < d->zi.operand_count; i++) {
		unsigned gpr = operand_gpr(&d->op[i]);

		if (gpr != NO_REGISTER && operand_writes(&d->op[i]))
			plan->gpr[gpr] = new_value(plan);
	}
	if (whole && operand_writes(&d->op[0]))
		plan->gpr[to] = first;
	if (d->form.kind == FORM_PUSH)
		plan->gpr[RSP] = (struct value){rsp.id, rsp.more - size};
	if (d->form.kind == FORM_POP && to != RSP)
		plan->gpr[RSP] = (struct value){rsp.id, rsp.more + size};
	if (d->form.kind == FORM_LEAVE)
		plan->gpr[RSP] = (struct value){rbp.id, rbp.more + size};
}

/* ------------------------------------------------------------------ which groups */

/* Each that has more than one member gets a place in the context, as long as there is one. */
static void give_slots(struct translation *t, unsigned first)
{
	u8 busy_until[CTX_SLOTS] = {0};

	for (unsigned i = first; i < t->groups; i++) {
		struct group *group = &t->group[i];
		unsigned slot = 0;

		while (slot < CTX_SLOTS && busy_until[slot] > group->leader)
			slot++;
		group->worth = group->members > 1 && slot < CTX_SLOTS;
		if (!group->worth)
			continue;
		group->slot = slot;
		busy_until[slot] = group->last + 1;
	}
}

static bool is_homeless(ZydisRegister reg)
{
	unsigned gpr = gpr_of(reg);

	return gpr != NO_REGISTER && register_home[gpr] == NOT_A_HOME;
}

/* For an index that has no home it does, and for operands that have none. */
bool spoils_addend(const struct decoded *d)
{
	switch (d->form.kind) {
	case FORM_PASS:
	case FORM_NOTHING:
	case FORM_LEA:
	case FORM_PUSH:
	case FORM_POP:
	case FORM_CALL:
	case FORM_RET:
		break;
	default:
		return true;
	}
	for (unsigned i = 0; i < d->zi.operand_count; i++) {
		const ZydisDecodedOperand *operand = &d->op[i];

		if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER && is_homeless(operand->reg.value))
			return true;
		if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (is_homeless(operand->mem.base) || is_homeless(operand->mem.index)))
			return true;
	}
	return false;
}

static bool accesses_memory(const struct decoded *d)
{
	return memory_of(d) || (d->form.kind != FORM_PASS && d->form.kind != FORM_NOTHING);
}

/* Does any follower come when r10 has been used for something else? Then it needs the slot. */
static void find_stored(struct translation *t, unsigned begin, unsigned end)
{
	const struct group *held = NULL;

	for (unsigned n = begin; n < end; n++) {
		struct decoded *d = &t->decoded[n];
		bool spoils = spoils_addend(d);

		for (unsigned k = 0; k < DECODED_ACCESSES; k++) {
			struct group *group = d->access[k].group;

			if (group && group->worth) {
				group->stored |= group->leader != n && (spoils || held != group);
				held = group;
			} else if (!k && accesses_memory(d)) {
				held = NULL;
			}
		}
		if (spoils)
			held = NULL;
	}
}

/*
 * A leader that is told no goes on in the copy, up to where no group is left that has begun in it.
 */
static void find_ends(struct translation *t, unsigned first)
{
	unsigned begin = 0, end = 0;
	bool any = false;

	for (unsigned i = first; i < t->groups; i++) {
		const struct group *group = &t->group[i];

		if (!group->worth)
			continue;
		if (!any || group->leader > end)
			begin = group->leader;
		end = any && group->leader <= end ? MAX(end, group->last) : group->last;
		any = true;
		for (unsigned n = begin; n <= end; n++) {
			t->decoded[n].copy_begin = begin;
			t->decoded[n].copy_end = end;
		}
	}
}

/*
 * Instructions begin to end have been decoded and not yet been put. Registers are followed
 * through them as sums: whatever is an old value plus a number that is known leads to the same
 * place as its neighbours do.
 *
 * Tour 6.411
 */
void group_accesses(struct translation *t, unsigned begin, unsigned end)
{
	struct plan plan = {.t = t, .begin = t->groups};
	unsigned first = t->groups;

	if (!t->wide || t->mode & (MODE_ALIGN | MODE_SINGLE | MODE_CROSSING) ||
	    without(t, WITHOUT_GROUPS))
		return;
	for (unsigned gpr = 0; gpr < 16; gpr++)
		plan.gpr[gpr] = new_value(&plan);
	for (unsigned n = begin; n < end; n++) {
		if (locks(&t->decoded[n].zi))
			plan.begin = t->groups;
		add_accesses(&plan, n);
		follow_registers(&plan, &t->decoded[n]);
	}
	give_slots(t, first);
	find_stored(t, begin, end);
	find_ends(t, first);
}

/* ------------------------------------------------------------------ in the block */

struct group *group_of_access(const struct translation *t, unsigned size, bool write)
{
	const struct decoded_access *access = &t->decoded[t->current].access[t->access];

	if (t->plain || t->access >= DECODED_ACCESSES || !access->group || !access->group->worth ||
	    access->size != size || access->write != write)
		return NULL;
	if (access->group->live)
		return access->group->stored || t->held == access->group ? access->group : NULL;
	/* If it is not the leader, that has not come to it: its instruction is #UD, perhaps. */
	return access->group->leader == t->current && !t->access ? access->group : NULL;
}

/* Behind the block: the instructions around a leader, in which nobody relies on another. */
void put_plain_copy(struct translation *t, const struct late *late)
{
	const struct decoded *leader = &t->decoded[late->leader];
	unsigned end = leader->copy_end;
	enum view view = t->view;
	bool ended = false;

	if (!leader->plain) {
		t->plain = true;
		translation_set_view(t, late->view);
		for (unsigned n = leader->copy_begin; n <= end && !ended; n++) {
			t->decoded[n].plain = t->e.at;
			t->ended = false;
			put_decoded(t, n);
			ended = t->ended;
		}
		t->plain = false;
		translation_set_view(t, view);
		if (!ended)
			emit_set_jump(emit_jmp(&t->e), t->decoded[end].behind);
	}
	emit_set_jump(late->jump, leader->plain);
}
