/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The code cache: where translated blocks are kept, found, linked to each other,
 * and dropped when the bytes that they were made from change.
 *
 * The code is mapped twice, once to write and once to run, so that nothing is ever
 * both. That is done before the guest's first instruction and never again: a cache
 * outlives the vCPU that filled it, and serves the one that a reboot makes, when lguest is locked
 * in and may not map anything executable. Room is given out from front to back and never taken back
 * one by one: when it runs out, everything goes, and the guest translates anew what it still needs.
 *
 * A block is known by the guest-physical address of its first byte and the mode, so that
 * two processes share the code of a library wherever it is mapped. A page with code in it is
 * never writable through the TLB: each write to it comes to C, which compares it with the
 * 64-byte chunks that have code.
 *
 * Tour 6.290: Where code is kept
 */
#include "engine/soft/translate.h"
#include "engine/soft/tuning.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/*
 * Of so many parts of the cache so many are for what a block rarely runs: its way to C, above all.
 * That is more than half of it, and beside the rest it would fill the processor's caches with
 * itself. A kernel's paths are long, and run from there.
 */
#define PARTS	    16
#define ASIDE_PARTS 9

/* Beside each byte of code, what it takes to describe it: a block, its marks, its instructions. */
#define ARENA_SHARE 2

/*
 * One piece of memory, mapped twice: of what is shared, mremap() with an old size of 0 makes
 * another mapping. That it has no name is for perf, which takes only such memory for a compiler's
 * code.
 */
static void map_code(struct cache *cache, u64 bytes)
{
	void *run;

	cache->write = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (cache->write == MAP_FAILED)
		return;
	run = mremap(cache->write, 0, bytes, MREMAP_MAYMOVE);
	if (run == MAP_FAILED)
		return;
	if (mprotect(run, bytes, PROT_READ | PROT_EXEC))
		munmap(run, bytes);
	else
		cache->run = run;
}

static struct cache *take_spare(struct soft *soft)
{
	struct cache *cache = soft->spare_caches;

	if (cache)
		soft->spare_caches = cache->next_spare;
	return cache;
}

static void free_page_tables(struct cache *cache)
{
	for (unsigned i = 0; i < RAM_PIECES; i++) {
		pages_free(cache->pages[i], cache->page_count[i] * sizeof(cache->pages[i][0]));
		cache->pages[i] = NULL;
	}
}

/* A pointer for each page of RAM, of which only those with code are ever touched. */
static bool make_page_tables(struct cache *cache, const struct soft *soft)
{
	for (unsigned i = 0; i < soft->ram_count; i++) {
		cache->page_count[i] = soft->ram[i].size / PAGE_SIZE;
		cache->pages[i] = pages_new(cache->page_count[i] * sizeof(cache->pages[i][0]));
		if (!cache->pages[i])
			return false;
	}
	return true;
}

static struct cache *make_cache(const struct soft *soft, u64 bytes, struct problem *why)
{
	struct cache *cache = pages_new(sizeof(*cache));

	if (!cache) {
		problem(why, ENOMEM, "out of memory");
		return NULL;
	}
	cache->write = cache->run = MAP_FAILED;
	cache->size = cache->aside = bytes;
	if (!(soft->options.soft_without & WITHOUT_ASIDE))
		cache->aside -= align_down(bytes / PARTS * ASIDE_PARTS, PAGE_SIZE);
	cache->arena_size = bytes / ARENA_SHARE;
	cache->order_room = bytes / 256;
	cache->order = pages_new(cache->order_room * sizeof(cache->order[0]));
	map_code(cache, bytes);
	cache->arena = pages_new(cache->arena_size);
	if (!cache->order || cache->write == MAP_FAILED || cache->run == MAP_FAILED ||
	    !cache->arena) {
		problem(why, errno,
			"cannot map %llu MiB for translated code, to write and to run: %s",
			(unsigned long long)bytes >> 20, strerror(errno));
		cache_free(cache);
		return NULL;
	}
	return cache;
}

struct cache *cache_new(struct vcpu *vcpu, u64 bytes, struct problem *why)
{
	struct cache *cache = take_spare(vcpu->soft);

	if (!cache)
		cache = make_cache(vcpu->soft, bytes, why);
	if (cache && !make_page_tables(cache, vcpu->soft)) {
		problem(why, errno, "no room to note which pages are code: %s", strerror(errno));
		cache_free(cache);
		return NULL;
	}
	return cache;
}

void cache_free(struct cache *cache)
{
	if (!cache)
		return;
	if (cache->write != MAP_FAILED)
		munmap(cache->write, cache->size);
	if (cache->run != MAP_FAILED)
		munmap(cache->run, cache->size);
	free_page_tables(cache);
	pages_free(cache->arena, cache->arena_size);
	pages_free(cache->order, cache->order_room * sizeof(cache->order[0]));
	pages_free(cache, sizeof(*cache));
}

/* The memory goes, the addresses stay; the guest's next life begins with nothing in either. */
void cache_spare(struct vcpu *vcpu)
{
	struct cache *cache = vcpu->cache;
	struct soft *soft = vcpu->soft;

	cache_flush(vcpu);
	madvise(cache->write, cache->size, MADV_REMOVE);
	madvise(cache->arena, cache->arena_size, MADV_DONTNEED);
	madvise(cache->order, cache->order_room * sizeof(cache->order[0]), MADV_DONTNEED);
	free_page_tables(cache);
	vcpu->cache = NULL;
	cache->next_spare = soft->spare_caches;
	soft->spare_caches = cache;
}

void cache_free_spares(struct soft *soft)
{
	struct cache *cache;

	while ((cache = take_spare(soft)))
		cache_free(cache);
}

static struct block **bucket_of(struct cache *cache, u64 gpa, u32 mode)
{
	u64 hash = (gpa ^ (u64)mode << 20) * 0x9e3779b97f4a7c15ull; /* 2^64 / golden ratio */

	return &cache->bucket[hash >> 48];
}

/*
 * By where the code is in guest-physical memory, and in which mode it is to run. Virtual
 * addresses do not come into it.
 *
 * Tour 6.291: Finding a block
 */
struct block *cache_find(struct vcpu *vcpu, u64 gpa, u64 gpa2, u32 mode)
{
	struct block *block = *bucket_of(vcpu->cache, gpa, mode);

	while (block && (block->gpa != gpa || block->mode != mode ||
			 (mode & MODE_CROSSING && block->gpa2 != gpa2)))
		block = block->hash_next;
	return block;
}

static _Atomic(struct code_page *) *page_slot(const struct vcpu *vcpu, u64 gpa)
{
	const struct ram *ram = ram_piece(vcpu->soft, gpa);

	return ram ? &vcpu->cache->pages[ram - vcpu->soft->ram][(gpa - ram->gpa) / PAGE_SIZE]
		   : NULL;
}

static struct code_page *page_of(const struct vcpu *vcpu, u64 gpa)
{
	_Atomic(struct code_page *) *slot = page_slot(vcpu, gpa);

	return slot ? atomic_load_explicit(slot, memory_order_acquire) : NULL;
}

static u64 chunk_mask(u64 offset, u64 length)
{
	u64 first = offset / 64 % 64, last = MIN((offset + length - 1) / 64, 63);

	/* Bytes that changed while we looked may not cross any more. */
	if (!length)
		return 0;
	return ~0ull >> (63 - last) & ~0ull << first;
}

bool cache_may_have(const struct vcpu *vcpu, u64 gpa, u64 length)
{
	struct code_page *page = page_of(vcpu, gpa);

	return page && atomic_load(&page->shown) & chunk_mask(gpa % PAGE_SIZE, length);
}

void cache_protect(struct vcpu *vcpu, u64 gpa)
{
	_Atomic(struct code_page *) *slot = page_slot(vcpu, gpa);
	struct cache *cache = vcpu->cache;
	struct code_page *page = *slot;

	/* What others write while we read may be in the block: see cache_may_have(). */
	if (page) {
		atomic_store(&page->shown, ~0ull);
		return;
	}
	page = cache->free_pages;
	if (page)
		cache->free_pages = page->free_next;
	else
		page = cache_alloc(cache, sizeof(*page));
	page->gpa = align_down(gpa, PAGE_SIZE);
	page->chunks = 0;
	page->blocks = NULL;
	page->bare = BARE_CODE_UNKNOWN;
	atomic_store(&page->shown, ~0ull);
	atomic_store(slot, page);
	page_has_code_now(vcpu, page->gpa);
}

static void release_page(struct vcpu *vcpu, struct code_page *page)
{
	bare_forget_rights(vcpu, page->gpa);
	atomic_store(page_slot(vcpu, page->gpa), NULL);
	page_has_no_code(vcpu, page->gpa);
	page->free_next = vcpu->cache->free_pages;
	vcpu->cache->free_pages = page;
}

/* Two pages of the guest may be one page of its RAM: then the block is in one list. */
static bool has_other_page(const struct block *block)
{
	return block->mode & MODE_CROSSING && block->gpa2 != align_down(block->gpa, PAGE_SIZE);
}

void cache_flush(struct vcpu *vcpu)
{
	struct cache *cache = vcpu->cache;

	for (u32 i = 0; i < cache->order_count; i++) {
		struct block *block = cache->order[i];
		struct code_page *page = page_of(vcpu, block->gpa);

		if (page)
			release_page(vcpu, page);
		page = has_other_page(block) ? page_of(vcpu, block->gpa2) : NULL;
		if (page)
			release_page(vcpu, page);
	}
	for (unsigned i = 0; i < CACHE_BUCKETS; i++)
		cache->bucket[i] = NULL;
	cache->used = cache->aside_used = cache->arena_used = 0;
	cache->order_count = 0;
	cache->free_pages = NULL;
	cache->epoch++;
	jump_caches_flush(vcpu);
	vcpu->stats.cache_flushes++;
}

/* Most of what one instruction may take of the arena. */
#define BLOCK_DESCRIPTION                                                                          \
	(sizeof(struct block) + sizeof(struct insn) + 2 * sizeof(struct link) +                    \
	 BLOCK_MARKS * sizeof(struct mark))

void cache_reserve(struct vcpu *vcpu)
{
	struct cache *cache = vcpu->cache;
	u64 description = BLOCK_INSNS * BLOCK_DESCRIPTION + PAGE_SIZE;

	if (cache->used + BLOCK_ROOM * 2 > cache->aside ||
	    (cache->aside < cache->size &&
	     cache->aside + cache->aside_used + BLOCK_ROOM * 2 > cache->size) ||
	    cache->arena_used + description * 2 > cache->arena_size ||
	    cache->order_count == cache->order_room)
		cache_flush(vcpu);
}

void *cache_alloc(struct cache *cache, u64 bytes)
{
	u64 *memory = (u64 *)(cache->arena + cache->arena_used);

	bytes = align_up(bytes, 8);
	for (u64 i = 0; i < bytes / 8; i++)
		memory[i] = 0;
	cache->arena_used += bytes;
	return memory;
}

/* Which of the two lists of pages is it in, for that page? */
static struct block **next_in_page(struct block *block, const struct code_page *page)
{
	return &block->page_next[align_down(block->gpa, PAGE_SIZE) != page->gpa];
}

static void show_more(struct code_page *page, u64 chunks)
{
	page->chunks |= chunks;
	atomic_store(&page->shown, page->chunks);
}

static void add_to_page(struct vcpu *vcpu, struct block *block, u64 gpa, u64 length)
{
	struct code_page *page = page_of(vcpu, gpa);

	*next_in_page(block, page) = page->blocks;
	page->blocks = block;
	show_more(page, chunk_mask(gpa % PAGE_SIZE, length));
}

void cache_add_part(struct vcpu *vcpu, struct block *block)
{
	struct cache *cache = vcpu->cache;
	struct block **bucket = bucket_of(cache, block->gpa, block->mode);
	u64 first = MIN(block->length, PAGE_SIZE - block->offset);

	block->hash_next = *bucket;
	*bucket = block;
	add_to_page(vcpu, block, block->gpa, first);
	if (has_other_page(block))
		add_to_page(vcpu, block, block->gpa2, block->length - first);
	else if (block->mode & MODE_CROSSING)
		show_more(page_of(vcpu, block->gpa), chunk_mask(0, block->length - first));
}

void cache_add(struct vcpu *vcpu, struct block *block)
{
	struct cache *cache = vcpu->cache;

	cache->order[cache->order_count++] = block;
	cache_add_part(vcpu, block);
}

void cache_link(struct cache *cache, struct link *link, struct block *to)
{
	link->to = to;
	link->next = to->incoming;
	to->incoming = link;
	emit_set_jump(link->distance, to->inner - (cache->run - cache->write));
}

static void open_link(struct link *link)
{
	link->to = NULL;
	emit_set_jump(link->distance, link->stub);
}

/*
 * Nobody comes here any more. Jumps go to their stubs again; who gets here otherwise, by falling
 * through or out of a jump cache, finds a jump. Nobody is in the midst of what that is written
 * over: whoever called us from this block goes on behind the site of an event, and no instruction
 * begins with one that is so short. The block's own jumps stay as they are: whom they lead to is
 * there, or has opened them.
 *
 * Tour 6.292: Nobody comes here any more
 */
static void close_block(struct cache *cache, struct block *block)
{
	ptrdiff_t shift = cache->run - cache->write;

	for (struct link *link = block->incoming; link; link = link->next)
		open_link(link);
	block->incoming = NULL;
	if (block->entry.stub) {
		block->inner[-shift] = JUMP_OPCODE;
		open_link(&block->entry);
	} else {
		emit_jmp_gs(&(struct emit){.at = block->code - shift}, CTX_JUMPSTUB);
	}
}

static void remove_from_page(struct vcpu *vcpu, struct block *block, u64 gpa)
{
	struct code_page *page = page_of(vcpu, gpa);
	struct block **at;

	for (at = &page->blocks; *at != block; at = next_in_page(*at, page))
		;
	*at = *next_in_page(block, page);
	if (!page->blocks)
		release_page(vcpu, page);
}

static void kill_block(struct vcpu *vcpu, struct block *block)
{
	struct block **at = bucket_of(vcpu->cache, block->gpa, block->mode);

	while (*at != block)
		at = &(*at)->hash_next;
	*at = block->hash_next;
	close_block(vcpu->cache, block);
	remove_from_page(vcpu, block, block->gpa);
	if (has_other_page(block))
		remove_from_page(vcpu, block, block->gpa2);
	vcpu->stats.blocks_invalidated++;
}

/* The bytes of the block in this page, as offsets: at its end, and, where it crosses, from 0. */
static u64 bytes_at_end(const struct block *block, const struct code_page *page, u64 *from)
{
	*from = block->offset;
	return align_down(block->gpa, PAGE_SIZE) == page->gpa
		       ? MIN(block->length, PAGE_SIZE - block->offset)
		       : 0;
}

static u64 bytes_at_start(const struct block *block, const struct code_page *page)
{
	return block->mode & MODE_CROSSING && block->gpa2 == page->gpa &&
			       block->offset + block->length > PAGE_SIZE
		       ? block->offset + block->length - PAGE_SIZE
		       : 0;
}

static u64 chunks_in_page(const struct block *block, const struct code_page *page)
{
	u64 from, end = bytes_at_end(block, page, &from), start = bytes_at_start(block, page);

	return chunk_mask(from, end) | chunk_mask(0, start);
}

static bool overlaps(const struct block *block, const struct code_page *page, u64 from, u64 to)
{
	u64 at, end = bytes_at_end(block, page, &at);

	return (end && at < to && at + end > from) || bytes_at_start(block, page) > from;
}

/*
 * Bytes [from, to) of the page, as offsets.
 *
 * Most stores to a page with code miss the code: it has data beside it. So first the 64-byte
 * chunks are asked, then each block for the bytes that it was made from, and only what was hit
 * is dropped. When the last block of a page is gone, so is the page's mark, and stores to it are
 * fast again.
 *
 * Tour 6.293: Somebody wrote over code
 */
static bool invalidate_in_page(struct vcpu *vcpu, u64 page_gpa, u64 from, u64 to)
{
	struct code_page *page = page_of(vcpu, page_gpa);
	struct block *block, *next;
	u64 chunks = 0;
	bool found = false, last = false;

	if (!page)
		return false;
	vcpu->stats.code_writes++;
	if (!(page->chunks & chunk_mask(from, to - from)))
		return false;
	for (block = page->blocks; block; block = next) {
		u64 taken = chunks_in_page(block, page);

		next = *next_in_page(block, page);
		if (taken & chunk_mask(from, to - from) && overlaps(block, page, from, to)) {
			last = !next && page->blocks == block;
			kill_block(vcpu, block);
			found = true;
		} else {
			chunks |= taken;
		}
	}
	/* Bytes may come that must not run bare. */
	bare_forget_rights(vcpu, page->gpa);
	page->bare = BARE_CODE_UNKNOWN;
	/* The page may be gone by now: only one that is still there has chunks. */
	if (!last && page_of(vcpu, page_gpa) == page) {
		page->chunks = chunks;
		atomic_store(&page->shown, chunks);
	}
	return found;
}

/* ------------------------------------------------------------------ code that runs as it is */

enum bare_code cache_bare_code(struct vcpu *vcpu, u64 gpa)
{
	struct code_page *page = page_of(vcpu, gpa);

	if (!page || !page->blocks)
		return BARE_CODE_UNKNOWN;
	if (page->bare == BARE_CODE_UNKNOWN) {
		/* Whoever writes from here on tells us: before we look. */
		show_more(page, ~0ull);
		page->bare = page_tells_of_host(ram_at(vcpu->soft, page->gpa),
						!vcpu->bare.cell->cpuid_faults);
	}
	return page->bare;
}

bool cache_invalidate(struct vcpu *vcpu, u64 gpa, u64 length)
{
	bool found = false;

	while (length) {
		u64 offset = gpa % PAGE_SIZE, piece = MIN(length, PAGE_SIZE - offset);

		if (invalidate_in_page(vcpu, gpa - offset, offset, offset + piece))
			found = true;
		gpa += piece;
		length -= piece;
	}
	vcpu->cache->epoch += found;
	return found;
}

struct block *cache_block_at(const struct cache *cache, const u8 *pc)
{
	u32 low = 0, high = cache->order_count;
	bool aside = pc >= cache->run + cache->aside;

	while (low < high) {
		u32 middle = (low + high) / 2;
		struct block *block = cache->order[middle];
		const u8 *code = aside ? block->aside : block->code;

		if (pc < code)
			high = middle;
		else if (pc >= code + (aside ? block->aside_size : block->size))
			low = middle + 1;
		else
			return block;
	}
	return NULL;
}
