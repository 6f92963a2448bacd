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
 */
#include "engine/soft/paging.h"
#include "engine/soft/translate.h"

static void forget(struct tlb *tlb, unsigned i)
{
	tlb->read[i] = tlb->write[i] = tlb->fetch[i] = tag_none(i);
	tlb->flags[i] = 0;
}

void tlb_note(struct lookup *lookup, unsigned i, u64 address, u8 flags)
{
	u64 piece = 1ull << address / MiB(2) % 64;

	lookup->keys |= 1u << (flags >> TLB_KEY_SHIFT);
	if (flags & TLB_GLOBAL)
		lookup->global = true;
	else if (lookup->local_count < LOCAL_MAX)
		lookup->local[lookup->local_count++] = i;
	else
		lookup->local_count = LOCAL_MAX + 1;
	if (!(flags & TLB_LARGE))
		return;
	if (flags & TLB_4M)
		piece = 3ull << address / MiB(4) * 2 % 64;
	lookup->large_filter |= flags & TLB_1G ? ~0ull : piece;
}

/* ------------------------------------------------------------------ one view's tables */

static void empty(struct lookup *lookup)
{
	for (unsigned i = 0; i < TLB_ENTRIES; i++)
		forget(&lookup->tlb, i);
	lookup->large_filter = 0;
	lookup->keys = 0;
	lookup->local_count = 0;
	lookup->global = false;
	jump_cache_flush(lookup);
}

/* What is not global. */
static void drop_local(struct lookup *lookup)
{
	struct tlb *tlb = &lookup->tlb;

	for (unsigned i = 0; lookup->local_count > LOCAL_MAX && i < TLB_ENTRIES; i++)
		if (!(tlb->flags[i] & TLB_GLOBAL))
			forget(tlb, i);
	for (unsigned n = 0; lookup->local_count <= LOCAL_MAX && n < lookup->local_count; n++)
		if (!(tlb->flags[lookup->local[n]] & TLB_GLOBAL))
			forget(tlb, lookup->local[n]);
	lookup->local_count = 0;
	if (lookup->jump_local)
		jump_cache_flush(lookup);
}

static bool same_large_page(const struct tlb *tlb, unsigned i, u64 address)
{
	u64 size = tlb->flags[i] & TLB_1G ? GiB(1) : tlb->flags[i] & TLB_4M ? MiB(4) : MiB(2);
	u64 tag = tlb->read[i] != tag_none(i) ? tlb->read[i] : tlb->fetch[i];

	return align_down(-tag, size) == align_down(address, size);
}

/* `flags`: only if it has them. */
static void drop_page(struct lookup *lookup, u64 address, u8 flags)
{
	bool large = lookup->large_filter >> (address / MiB(2) % 64) & 1;
	struct tlb *tlb = &lookup->tlb;
	unsigned own = tlb_index(address);

	if ((tlb->flags[own] & flags) == flags)
		forget(tlb, own);
	for (unsigned i = 0; large && i < TLB_ENTRIES; i++)
		if (tlb->flags[i] & TLB_LARGE && (tlb->flags[i] & flags) == flags &&
		    same_large_page(tlb, i, address))
			forget(tlb, i);
	/* Of a large page only one piece is named: any may have been run. */
	if (large || jump_page_is_noted(lookup, address))
		jump_cache_flush(lookup);
}

static void drop_keys(struct lookup *lookup, u16 keys)
{
	struct tlb *tlb = &lookup->tlb;

	if (!(lookup->keys & keys))
		return;
	for (unsigned i = 0; i < TLB_ENTRIES; i++)
		if (keys >> (tlb->flags[i] >> TLB_KEY_SHIFT) & 1)
			forget(tlb, i);
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
	vcpu->stats.spaces_taken++;
	return space;
}

void tlb_set_up(struct vcpu *vcpu)
{
	for (unsigned i = 0; i < SPACES; i++)
		vcpu->space[i].pcid = PCID_NONE;
	make_current(vcpu, &vcpu->space[0]);
}

void tlb_switch(struct vcpu *vcpu, u32 pcid, bool keep)
{
	struct address_space *space = find_space(vcpu, pcid);

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
	else if (space)
		drop_page(&space->lookup, address, 0);
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
	for (unsigned i = 0; i < TLB_ENTRIES; i++)
		if (tlb->write[i] != tag_none(i) &&
		    (u64)host_page + tlb->write[i] == tlb->addend[i])
			tlb->write[i] = tag_none(i);
}

/* The page has code now: every write to it must come to C. */
void mmu_forget_writable(struct vcpu *vcpu, const u8 *host_page)
{
	for (unsigned view = 0; view < KERNEL_VIEWS; view++)
		forget_writable(&vcpu->ctx.kernel[view].tlb, host_page);
	for (unsigned i = 0; i < SPACES; i++)
		if (vcpu->space[i].pcid != PCID_NONE)
			forget_writable(&vcpu->space[i].lookup.tlb, host_page);
}
