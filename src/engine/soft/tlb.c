/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Forgetting translations: the TLB, and the jump caches with it, which know by virtual
 * address as well. Filling is done where it is known what with: mmu.c, run.c.
 */
#include "engine/soft/paging.h"
#include "engine/soft/translate.h"

static void forget(struct tlb *tlb, unsigned i)
{
	tlb->read[i] = tlb->write[i] = tlb->fetch[i] = tag_none(i);
	tlb->flags[i] = 0;
}

void tlb_flush(struct vcpu *vcpu, bool global_too)
{
	for (unsigned view = 0; view < VIEWS; view++) {
		struct tlb *tlb = &vcpu->ctx.tlb[view];

		for (unsigned i = 0; i < TLB_ENTRIES; i++)
			if (global_too || !(tlb->flags[i] & TLB_GLOBAL))
				forget(tlb, i);
	}
	for (unsigned view = 0; view < VIEWS && !global_too; view++)
		if (vcpu->jump_local & 1u << view)
			jump_cache_flush(vcpu, view);
	if (global_too) {
		vcpu->large_filter = 0;
		vcpu->tlb_keys = 0;
		jump_caches_flush(vcpu);
	}
	vcpu->stats.tlb_flushes++;
	vcpu->stats.tlb_flushes_all += global_too;
	TRACE(vcpu, MMU, "flush%s cr3 0x%llx", global_too ? " all" : "",
	      (unsigned long long)vcpu->cr3);
}

void tlb_flush_keys(struct vcpu *vcpu, u32 changed)
{
	u32 keys = 0;

	for (unsigned key = 0; key < 16; key++)
		if (changed >> 2 * key & 3)
			keys |= 1u << key;
	if (!(vcpu->tlb_keys & keys))
		return;
	for (unsigned view = 0; view < VIEWS; view++) {
		struct tlb *tlb = &vcpu->ctx.tlb[view];

		for (unsigned i = 0; i < TLB_ENTRIES; i++)
			if (keys >> (tlb->flags[i] >> TLB_KEY_SHIFT) & 1)
				forget(tlb, i);
	}
	vcpu->tlb_keys &= ~keys;
}

static bool same_large_page(const struct tlb *tlb, unsigned i, u64 address)
{
	u64 size = tlb->flags[i] & TLB_1G ? GiB(1) : tlb->flags[i] & TLB_4M ? MiB(4) : MiB(2);
	u64 tag = tlb->read[i] != tag_none(i) ? tlb->read[i] : tlb->fetch[i];

	return align_down(-tag, size) == align_down(address, size);
}

void tlb_flush_page(struct vcpu *vcpu, u64 address)
{
	unsigned own = tlb_index(address);
	bool large = vcpu->large_filter >> (address / MiB(2) % 64) & 1;

	for (unsigned view = 0; view < VIEWS; view++) {
		struct tlb *tlb = &vcpu->ctx.tlb[view];

		forget(tlb, own);
		for (unsigned i = 0; large && i < TLB_ENTRIES; i++)
			if (tlb->flags[i] & TLB_LARGE && same_large_page(tlb, i, address))
				forget(tlb, i);
	}
	/* Of a large page only one piece is named: any may have been run. */
	if (large || jump_page_is_noted(vcpu, address))
		jump_caches_flush(vcpu);
	vcpu->stats.invlpgs++;
	TRACE(vcpu, MMU, "invlpg 0x%llx", (unsigned long long)address);
}

void tlb_note_large(struct vcpu *vcpu, u64 address, u8 flags)
{
	u64 piece = 1ull << address / MiB(2) % 64;

	if (flags & TLB_4M)
		piece = 3ull << address / MiB(4) * 2 % 64;
	vcpu->large_filter |= flags & TLB_1G ? ~0ull : piece;
}
