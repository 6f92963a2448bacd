/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Forgetting translations, and remembering them for address spaces that are not the
 * current one. Filling is done where it is known what with: mmu.c, jump.c.
 *
 * There are two sorts of tables. Those of the kernel's views are at fixed places in the context,
 * where translated code finds them without a pointer. Most of what they know is global, and in each
 * address space the same; what is not is on a list, and goes when another address space comes.
 * Those of the user's view are reached through a pointer, and there is a handful of them, each for
 * one PCID: a load of CR3 that may keep what it finds (Intel SDM 3A, "Process-Context Identifiers
 * (PCIDs)") exchanges the pointer. When a PCID comes that nobody has, the one gives way that was
 * not used for longest. A guest without PCIDs uses one of them, for ever.
 *
 * Tour 6.450: Forgetting
 */
#include "engine/soft/paging.h"
#include "engine/soft/translate.h"
#include "engine/soft/tuning.h"

static void forget(struct tlb_part *part, unsigned i)
{
	part->tag[i] = tag_none(i);
	part->flags[i] = 0;
}

static u64 large_size(u8 flags)
{
	return flags & TLB_1G ? GiB(1) : flags & TLB_4M ? MiB(4) : MiB(2);
}

/* A page is often there to read and to write: once will do. */
static void list_local(struct lookup *lookup, unsigned i)
{
	unsigned count = lookup->local_count;

	if (count && count <= LOCAL_MAX && lookup->local[count - 1] == i)
		return;
	if (count < LOCAL_MAX)
		lookup->local[lookup->local_count++] = i;
	else
		lookup->local_count = LOCAL_MAX + 1;
}

/* Entry i is for that address now. */
static void note(struct lookup *lookup, unsigned i, u64 address, u8 flags)
{
	u64 size = large_size(flags), piece = 1ull << address / MiB(2) % 64;

	lookup->keys |= 1u << (flags >> TLB_KEY_SHIFT);
	if (flags & TLB_GLOBAL)
		lookup->global = true;
	else
		list_local(lookup, i);
	if (!(flags & TLB_LARGE))
		return;
	if (flags & TLB_4M)
		piece = 3ull << address / MiB(4) * 2 % 64;
	lookup->large_filter |= flags & TLB_1G ? ~0ull : piece;
	lookup->large_first = MIN(lookup->large_first, align_down(address, size));
	lookup->large_last = MAX(lookup->large_last, align_down(address, size) + size - 1);
}

/*
 * Minus the page's address: added to the address of an access it leaves the offset in the
 * page, or something large. So one addition and one shift say whether it is this page, and
 * whether the access stays in it.
 *
 * Tour 6.451: A tag is minus an address
 */
void tlb_fill(struct lookup *lookup, enum tlb_kind kind, u64 address, u64 addend, u8 flags)
{
	struct tlb_part *part = &lookup->tlb.part[kind];
	unsigned i = tlb_index(&lookup->tlb, address);
	u64 tag = -align_down(address, PAGE_SIZE);

	lookup->tlb.replaced += part->tag[i] != tag && part->tag[i] != tag_none(i);
	part->tag[i] = tag;
	part->addend[i] = addend;
	part->flags[i] = flags;
	note(lookup, i, address, flags);
}

void tlb_forget(struct lookup *lookup, enum tlb_kind kind, u64 address)
{
	forget(&lookup->tlb.part[kind], tlb_index(&lookup->tlb, address));
}

/* ------------------------------------------------------------------ how large it is */

static void set_entries(struct tlb *tlb, unsigned entries)
{
	tlb->mask = (entries - 1) * PAGE_SIZE;
	tlb->replaced = 0;
}

/* Twice as many: of the address one bit more counts. */
static void spread(struct tlb_part *part, unsigned old)
{
	for (unsigned i = 0; i < old; i++) {
		forget(part, i + old);
		if (part->tag[i] == tag_none(i) || !(-part->tag[i] / PAGE_SIZE & old))
			continue;
		part->tag[i + old] = part->tag[i];
		part->addend[i + old] = part->addend[i];
		part->flags[i + old] = part->flags[i];
		forget(part, i);
	}
}

/*
 * Conflicts have cost more than the larger tables will: to fill, to clear, and in the caches. An
 * empty TLB is a small one again.
 */
void tlb_grow(struct lookup *lookup)
{
	struct tlb *tlb = &lookup->tlb;
	unsigned old = tlb_entries(tlb);

	if (tlb->replaced < old * 2 || old == TLB_MOST)
		return;
	for (enum tlb_kind kind = 0; kind < TLB_KINDS; kind++)
		spread(&tlb->part[kind], old);
	set_entries(tlb, old * 2);
	/* What is listed has moved. */
	if (lookup->local_count)
		lookup->local_count = LOCAL_MAX + 1;
}

/* ------------------------------------------------------------------ one view's tables */

static void empty(struct lookup *lookup)
{
	set_entries(&lookup->tlb, TLB_LEAST);
	for (enum tlb_kind kind = 0; kind < TLB_KINDS; kind++)
		for (unsigned i = 0; i < TLB_LEAST; i++)
			forget(&lookup->tlb.part[kind], i);
	lookup->version++;
	lookup->large_filter = 0;
	lookup->large_first = UINT64_MAX;
	lookup->large_last = 0;
	lookup->keys = 0;
	lookup->local_count = 0;
	lookup->global = false;
	jump_cache_flush(lookup);
}

static void forget_local(struct tlb_part *part, unsigned i)
{
	if (!(part->flags[i] & TLB_GLOBAL))
		forget(part, i);
}

/* What is not global. */
static void drop_local(struct lookup *lookup)
{
	bool listed = lookup->local_count <= LOCAL_MAX;
	unsigned entries = tlb_entries(&lookup->tlb);

	if (!listed && !lookup->global) {
		empty(lookup);
		return;
	}
	for (enum tlb_kind kind = 0; kind < TLB_KINDS; kind++) {
		struct tlb_part *part = &lookup->tlb.part[kind];

		for (unsigned i = 0; !listed && i < entries; i++)
			forget_local(part, i);
		for (unsigned n = 0; listed && n < lookup->local_count; n++)
			forget_local(part, lookup->local[n]);
	}
	lookup->local_count = 0;
	lookup->version++;
	if (lookup->jump_local)
		jump_cache_flush(lookup);
}

static bool same_large_page(const struct tlb_part *part, unsigned i, u64 address)
{
	u64 size = large_size(part->flags[i]);

	return align_down(-part->tag[i], size) == align_down(address, size);
}

/* May that be in a large page? */
static bool is_large(const struct lookup *lookup, u64 address)
{
	return address >= lookup->large_first && address <= lookup->large_last &&
	       lookup->large_filter >> (address / MiB(2) % 64) & 1;
}

/* `flags`: only if it has them. */
static void drop_page(struct lookup *lookup, u64 address, u8 flags)
{
	bool large = is_large(lookup, address);
	unsigned own = tlb_index(&lookup->tlb, address), entries = tlb_entries(&lookup->tlb);

	for (enum tlb_kind kind = 0; kind < TLB_KINDS; kind++) {
		struct tlb_part *part = &lookup->tlb.part[kind];

		if ((part->flags[own] & flags) == flags)
			forget(part, own);
		for (unsigned i = 0; large && i < entries; i++)
			if (part->flags[i] & TLB_LARGE && (part->flags[i] & flags) == flags &&
			    same_large_page(part, i, address))
				forget(part, i);
	}
	/* Of a large page only one piece is named: any may have been run. */
	if (large || notes_have(&lookup->jump_pages, address))
		jump_cache_flush(lookup);
}

static void drop_keys(struct lookup *lookup, u16 keys)
{
	unsigned entries = tlb_entries(&lookup->tlb);

	if (!(lookup->keys & keys))
		return;
	for (enum tlb_kind kind = 0; kind < TLB_KINDS; kind++) {
		struct tlb_part *part = &lookup->tlb.part[kind];

		for (unsigned i = 0; i < entries; i++)
			if (keys >> (part->flags[i] >> TLB_KEY_SHIFT) & 1)
				forget(part, i);
	}
	lookup->keys &= ~keys;
}

/* ------------------------------------------------------------------ address spaces */

static u32 current_pcid(const struct vcpu *vcpu)
{
	return vcpu->cr4 & X86_CR4_PCIDE ? vcpu->cr3 & CR3_PCID : 0;
}

static struct address_space *find_space(struct vcpu *vcpu, u32 pcid)
{
	for (unsigned i = 0; i < SPACES; i++)
		if (vcpu->space[i].pcid == pcid)
			return &vcpu->space[i];
	return NULL;
}

static void make_current(struct vcpu *vcpu, struct address_space *space)
{
	space->used = ++vcpu->space_clock;
	vcpu->current_space = space;
	vcpu->ctx.user = &space->lookup;
	vcpu->ctx.stack_user = (u64)&space->lookup - STACK_BELOW;
}

/* An empty one for that PCID. */
static struct address_space *take_space(struct vcpu *vcpu, u32 pcid)
{
	struct address_space *space = &vcpu->space[0];

	for (unsigned i = 1; i < SPACES; i++)
		if (vcpu->space[i].used < space->used)
			space = &vcpu->space[i];
	empty(&space->lookup);
	space->pcid = pcid;
	space->bare = (struct bare_case){.wanted = vcpu->soft->options.soft_without & WITHOUT_DOUBT,
					 .backoff = 1};
	vcpu->stats.spaces_taken++;
	return space;
}

void tlb_set_up(struct vcpu *vcpu)
{
	for (unsigned i = 0; i < SPACES; i++)
		vcpu->space[i].pcid = PCID_NONE;
	vcpu->walk_epoch = 1; /* what is kept so far is zeros */
	make_current(vcpu, &vcpu->space[0]);
}

/*
 * CR3 was loaded. The kernel's tables stay, but for what was not global; the user's are
 * exchanged for those of this PCID, as they were when it was here last, if the guest says that
 * it may be so.
 *
 * Tour 6.452: Another address space
 */
void tlb_switch(struct vcpu *vcpu, u32 pcid, bool keep)
{
	struct address_space *space = find_space(vcpu, pcid);

	vcpu->walk_epoch++;
	if (space == vcpu->current_space) {
		if (!keep)
			tlb_flush(vcpu, false);
		return;
	}
	for (unsigned view = 0; view < KERNEL_VIEWS; view++)
		drop_local(&vcpu->ctx.kernel[view]);
	if (!space)
		space = take_space(vcpu, pcid);
	else if (!keep)
		drop_local(&space->lookup);
	make_current(vcpu, space);
	vcpu->stats.space_switches++;
	TRACE(vcpu, MMU, "pcid %u%s", pcid, keep ? "" : ", without what it knew");
}

/* ------------------------------------------------------------------ what the guest says */

static void abandon_others(struct vcpu *vcpu)
{
	for (unsigned i = 0; i < SPACES; i++)
		if (&vcpu->space[i] != vcpu->current_space)
			vcpu->space[i].pcid = PCID_NONE;
}

void tlb_flush(struct vcpu *vcpu, bool global_too)
{
	void (*drop)(struct lookup * lookup) = global_too ? empty : drop_local;

	vcpu->walk_epoch++;
	for (unsigned view = 0; view < VIEWS; view++)
		drop(vcpu_lookup(vcpu, view));
	if (global_too) {
		abandon_others(vcpu);
		vcpu->current_space->pcid = current_pcid(vcpu);
	}
	vcpu->stats.tlb_flushes++;
	vcpu->stats.tlb_flushes_all += global_too;
	TRACE(vcpu, MMU, "flush%s cr3 0x%llx", global_too ? " all" : "",
	      (unsigned long long)vcpu->cr3);
}

void tlb_flush_page(struct vcpu *vcpu, u64 address)
{
	vcpu->walk_epoch++;
	bare_forget_page(vcpu, address);
	for (unsigned view = 0; view < VIEWS; view++)
		drop_page(vcpu_lookup(vcpu, view), address, 0);
	/* What is global has to go everywhere. */
	for (unsigned i = 0; i < SPACES; i++)
		if (&vcpu->space[i] != vcpu->current_space && vcpu->space[i].lookup.global)
			drop_page(&vcpu->space[i].lookup, address, TLB_GLOBAL);
	vcpu->stats.invlpgs++;
	TRACE(vcpu, MMU, "invlpg 0x%llx", (unsigned long long)address);
}

void tlb_flush_page_of(struct vcpu *vcpu, u32 pcid, u64 address)
{
	struct address_space *space = find_space(vcpu, pcid);

	if (space == vcpu->current_space)
		tlb_flush_page(vcpu, address);
	else if (space) {
		bare_forget_page(vcpu, address);
		drop_page(&space->lookup, address, 0);
	}
}

void tlb_flush_space(struct vcpu *vcpu, u32 pcid)
{
	struct address_space *space = find_space(vcpu, pcid);

	if (space == vcpu->current_space)
		tlb_flush(vcpu, false);
	else if (space)
		space->pcid = PCID_NONE;
}

void tlb_flush_spaces(struct vcpu *vcpu)
{
	abandon_others(vcpu);
	tlb_flush(vcpu, false);
}

void tlb_flush_keys(struct vcpu *vcpu, u32 changed)
{
	u16 keys = 0;

	for (unsigned key = 0; key < 16; key++)
		if (changed >> 2 * key & 3)
			keys |= 1u << key;
	for (unsigned view = 0; view < KERNEL_VIEWS; view++)
		drop_keys(&vcpu->ctx.kernel[view], keys);
	for (unsigned i = 0; i < SPACES; i++)
		drop_keys(&vcpu->space[i].lookup, keys);
}

/* ------------------------------------------------------------------ what our own translator says
 */

static void forget_writable(struct tlb *tlb, const u8 *host_page)
{
	struct tlb_part *part = &tlb->part[TLB_WRITE];
	unsigned entries = tlb_entries(tlb);

	for (unsigned i = 0; i < entries; i++)
		if ((u64)host_page + part->tag[i] == part->addend[i] && part->tag[i] != tag_none(i))
			forget(part, i);
}

/* The page has code now: every write to it must come to C. */
void mmu_forget_writable(struct vcpu *vcpu, u64 gpa)
{
	const u8 *host_page = ram_at(vcpu->soft, align_down(gpa, PAGE_SIZE));

	bare_forget_rights(vcpu, gpa);
	for (unsigned view = 0; view < KERNEL_VIEWS; view++)
		forget_writable(&vcpu->ctx.kernel[view].tlb, host_page);
	for (unsigned i = 0; i < SPACES; i++)
		if (vcpu->space[i].pcid != PCID_NONE)
			forget_writable(&vcpu->space[i].lookup.tlb, host_page);
}
