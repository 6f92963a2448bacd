/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jump caches: where there is code for a virtual address. Translated code looks there at
 * each indirect jump, and calls C if it finds nothing (run.c), which then looks up the block and
 * remembers it here.
 *
 * What they know is derived from translations, so it goes with them: see tlb.c. There is
 * one for each way of looking at memory, and for users one in each address space that is
 * remembered.
 *
 * Beside each is a return cache. Translated code fills it: a call puts there where it returns to,
 * for the guest and in the cache of code, at a number that comes of where on the guest's stack the
 * return address is. A return looks there first. That needs no pointer to keep, and nothing goes
 * out of step when a guest changes its stack, unwinds it or forgets it: like those of the jump
 * cache, an entry is true for as long as translations are, and so they go together. What a call
 * remembers is in the page that runs, and whoever comes to a page by way of C has it noted: so what
 * empties these caches must not go on behind its site, but find its next block anew (that is why
 * forms.c lets such instructions end theirs).
 *
 * A return goes to the host's code by the host's RET, and a call took a CALL on its way: not for
 * the stack, which stays where it is, but for the processor's own return stack, which then foresees
 * where a return goes. That is most of what is gained.
 *
 * Entry 0 is no call's: its number is one more than what the place on the stack comes to, and a
 * return, which looks when the address is off the stack, comes to the same without adding one. So
 * who wants us makes the mask of returns 0, and none is found any more.
 *
 * Tour 6.300: Where to jump, and where to return
 */
#include "engine/soft/translate.h"
#include "engine/soft/tuning.h"

/* What an invalidated page or a new CR3 will mean for the jump cache. */
static void note_page(struct lookup *lookup, u64 linear)
{
	notes_set(&lookup->jump_pages, linear);
	if (!(lookup->tlb.part[TLB_FETCH].flags[tlb_index(&lookup->tlb, linear)] & TLB_GLOBAL))
		lookup->jump_local = true;
}

/*
 * Code for this address, in this view, from now on without C: until something of the TLB is
 * forgotten.
 *
 * Tour 6.301: Remembering a jump
 */
void jump_remember(struct vcpu *vcpu, u64 linear, const struct block *block)
{
	struct lookup *lookup = vcpu_lookup(vcpu, vcpu->mode & MODE_VIEW);
	struct jump_cache *cache = &lookup->jump;
	unsigned i = soft_jump_index(linear);

	note_page(lookup, linear);
	if (block->mode & MODE_CROSSING)
		note_page(lookup, linear + PAGE_SIZE);

	cache->code[i] = (u64)block->code;
	/* Entry 0 is where all jumps look when somebody wants us: first this, then the look at
	 * poll. */
	__atomic_store_n(&cache->tag[i], -linear, __ATOMIC_SEQ_CST);
	if (!i && atomic_load(&vcpu->ctx.poll))
		jump_cache_close(cache);
}

const void *jump_find(const struct vcpu *vcpu, u64 linear)
{
	const struct lookup *lookup = vcpu_lookup((struct vcpu *)vcpu, vcpu->mode & MODE_VIEW);
	unsigned i = soft_jump_index(linear);

	/* Entry 0 may be closed, and has its tag all the same. */
	if (vcpu->soft->options.soft_without & WITHOUT_REENTRY || !i ||
	    lookup->jump.tag[i] != -linear)
		return NULL;
	return (const void *)lookup->jump.code[i];
}

void jump_forget(struct vcpu *vcpu, u64 linear)
{
	struct jump_cache *cache = &vcpu_lookup(vcpu, vcpu->mode & MODE_VIEW)->jump;
	unsigned i = soft_jump_index(linear);

	if (i && cache->tag[i] == -linear)
		cache->tag[i] = TAG_NONE;
}

/*
 * A tag that stands for our own address is what a guest may well return to: then it gets to where
 * it would get without a cache.
 */
static void return_cache_flush(struct return_cache *cache)
{
	for (unsigned i = 0; i < ARRAY_SIZE(cache->tag); i++)
		cache->tag[i] = cache->code[i] = (u64)soft_jump_stub;
}

void jump_cache_flush(struct lookup *lookup)
{
	u64 *tag = lookup->jump.tag;

	for (unsigned i = 1; i < JUMP_ENTRIES; i++)
		tag[i] = TAG_NONE;
	jump_cache_close(&lookup->jump);
	return_cache_flush(&lookup->returns);
	lookup->jump_local = false;
	lookup->jump_pages = (struct notes){0};
}

void jump_caches_flush(struct vcpu *vcpu)
{
	for (unsigned view = 0; view < KERNEL_VIEWS; view++)
		jump_cache_flush(&vcpu->ctx.kernel[view]);
	for (unsigned i = 0; i < SPACES; i++)
		if (vcpu->space[i].pcid != PCID_NONE)
			jump_cache_flush(&vcpu->space[i].lookup);
}
