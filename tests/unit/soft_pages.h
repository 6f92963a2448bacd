/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory of a few pages in place of the soft engine's MMU, for the tests of handlers that
 * work on guest memory: each page says what may be done with it, and a fault is
 * recorded with its address. These are definitions, not declarations: a test
 * that includes this has mem_read() and the rest from here, and the linker leaves mmu.c out. And
 * chance, which is the same in every run.
 */
#ifndef SOFT_PAGES_H
#define SOFT_PAGES_H

#include "engine/soft/translate.h"

#include <stdlib.h>
#include <string.h>

#define PAGES 18u

/* ------------------------------------------------------------------ chance */

static inline u64 next_random(u64 *state)
{
	/* Marsaglia's xorshift64*. */
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

static inline u64 below(u64 *state, u64 limit)
{
	return (next_random(state) >> 20) % limit;
}

static inline bool chance(u64 *state, unsigned percent)
{
	return below(state, 100) < percent;
}

/* ------------------------------------------------------------------ memory */

struct page {
	u8 *host;
	bool readable, writable;
	bool direct; /* else as with a page that holds code */
	bool device; /* reads as its address, counts, and forgets what is written */
};

struct fake {
	struct vcpu vcpu;
	void (*before)(struct vcpu *vcpu); /* vectors_save(), where vectors matter */
	u64 base;			   /* the address of the first page */
	struct page page[PAGES];
	bool faulted, fault_write;
	u64 fault_address;
	unsigned device_reads, device_writes;
	u64 device_written;   /* the last that was */
	struct cache cache;   /* of nothing */
	unsigned polls_after; /* lookups until somebody wants the vCPU; 0: never */
};

static inline struct fake *fake_new(u64 base)
{
	struct fake *fake = aligned_alloc(64, align_up(sizeof *fake, 64));

	if (!fake)
		abort();
	memset(fake, 0, sizeof *fake);
	fake->base = base;
	fake->vcpu.efer = EFER_LMA;
	fake->vcpu.seg[CS].l = true;
	fake->vcpu.cache = &fake->cache;
	return fake;
}

static inline struct page *fake_page(struct fake *fake, u64 address)
{
	u64 at = (address - fake->base) / PAGE_SIZE;

	return address >= fake->base && at < PAGES ? &fake->page[at] : NULL;
}

/* The page, if that may be done with it. */
static inline struct page *fake_access(struct fake *fake, u64 address, enum access access)
{
	struct page *page = fake_page(fake, address);

	return page && (access & ACCESS_WRITE ? page->writable : page->readable) ? page : NULL;
}

bool mem_probe(struct vcpu *vcpu, u64 address, unsigned length, enum access access)
{
	struct fake *fake = container_of(vcpu, struct fake, vcpu);

	if (fake->before)
		fake->before(vcpu);
	for (unsigned i = 0; i < length; i++)
		if (!fake_access(fake, address + i, access)) {
			fake->faulted = true;
			fake->fault_write = access & ACCESS_WRITE;
			fake->fault_address = address + i;
			return false;
		}
	return true;
}

bool mem_read(struct vcpu *vcpu, u64 address, void *to, unsigned length, enum access access)
{
	struct fake *fake = container_of(vcpu, struct fake, vcpu);

	if (!mem_probe(vcpu, address, length, access))
		return false;
	if (fake_page(fake, address)->device) {
		fake->device_reads++;
		memcpy(to, &address, MIN(length, 8));
		return true;
	}
	for (unsigned i = 0; i < length; i++)
		((u8 *)to)[i] = fake_page(fake, address + i)->host[(address + i) % PAGE_SIZE];
	return true;
}

bool mem_write(struct vcpu *vcpu, u64 address, const void *from, unsigned length,
	       enum access access)
{
	struct fake *fake = container_of(vcpu, struct fake, vcpu);

	if (!mem_probe(vcpu, address, length, access))
		return false;
	if (fake_page(fake, address)->device) {
		fake->device_writes++;
		fake->device_written = 0;
		memcpy(&fake->device_written, from, MIN(length, 8));
		return true;
	}
	for (unsigned i = 0; i < length; i++)
		fake_page(fake, address + i)->host[(address + i) % PAGE_SIZE] =
			((const u8 *)from)[i];
	return true;
}

u8 *mem_direct(struct vcpu *vcpu, u64 address, enum access access)
{
	struct fake *fake = container_of(vcpu, struct fake, vcpu);
	struct page *page = fake_access(fake, address, access);

	if (fake->polls_after && !--fake->polls_after)
		atomic_store(&vcpu->ctx.poll, POLL_INTERRUPT);
	if (!page || !page->direct || page->device)
		return NULL;
	return page->host + address % PAGE_SIZE;
}

#endif
