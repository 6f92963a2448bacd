/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory management unit: from the guest's virtual addresses to the host's.
 *
 * Translated code asks the TLB itself and comes here when that does not know
 * (mmu_load(), mmu_store()): then the guest's page tables are walked, as the
 * processor would (walk.c), and the TLB is filled. What no TLB entry can express - an access that
 * crosses into another page, a device, a page that holds code - runs on the bounce
 * buffer: we fill it, translated code executes the very same instruction on it, and
 * mmu_commit() carries the result where it belongs.
 *
 * Tour 6.430: When the TLB does not know
 */
#include "board/board.h"
#include "board/layout.h"
#include "engine/soft/paging.h"
#include "engine/soft/segment.h"
#include "engine/soft/translate.h"
#include "engine/soft/tuning.h"

u8 *ram_at(const struct soft *soft, u64 gpa)
{
	const struct ram *ram = ram_piece(soft, gpa);

	return ram ? ram->host + (gpa - ram->gpa) : NULL;
}

static bool in_apic(const struct vcpu *vcpu, u64 gpa)
{
	return align_down(gpa, PAGE_SIZE) == LAYOUT_LAPIC &&
	       (lapic_base_get(vcpu) & (APIC_BASE_ENABLE | APIC_BASE_X2)) == APIC_BASE_ENABLE;
}

u64 mmio_read(struct vcpu *vcpu, u64 gpa, unsigned length)
{
	u64 value;

	vcpu->stats.mmio_reads++;
	if (in_apic(vcpu, gpa)) {
		/* Registers of 32 bits, 16 bytes apart. */
		value = lapic_read(vcpu, gpa % PAGE_SIZE & ~3ull);
		return value >> gpa % 4 * 8;
	}
	vectors_save(vcpu);
	value = bus_read(vcpu->soft->engine.board->bus, MEMORY, gpa, length);
	TRACE(vcpu, IO, "read 0x%llx.%u: 0x%llx", (unsigned long long)gpa, length,
	      (unsigned long long)value);
	return value;
}

void mmio_write(struct vcpu *vcpu, u64 gpa, unsigned length, u64 value)
{
	vcpu->stats.mmio_writes++;
	if (in_apic(vcpu, gpa)) {
		if (!(gpa & 3))
			lapic_write(vcpu, gpa % PAGE_SIZE, value);
		return;
	}
	vectors_save(vcpu);
	TRACE(vcpu, IO, "write 0x%llx.%u: 0x%llx", (unsigned long long)gpa, length,
	      (unsigned long long)value);
	bus_write(vcpu->soft->engine.board->bus, MEMORY, gpa, length, value);
}

#define FXSAVE_STATUS 2	    /* where an FXSAVE image has the x87 status word */
#define X87_SUMMARY   0x80u /* of it: there is an unmasked exception */

static bool raise_non_canonical(struct vcpu *vcpu)
{
	raise_error(vcpu, VECTOR_GP, 0);
	vcpu->exception.non_canonical = true;
	return false;
}

static enum view view_of(const struct vcpu *vcpu, enum access access)
{
	return access & ACCESS_SYSTEM ? VIEW_KERNEL : vcpu->mode & MODE_VIEW;
}

static enum tlb_kind kind_of(enum access access)
{
	return access & ACCESS_WRITE ? TLB_WRITE : access & ACCESS_FETCH ? TLB_FETCH : TLB_READ;
}

static bool has_own(const struct tlb *tlb, enum tlb_kind kind, u64 address)
{
	return tlb->part[kind].tag[tlb_index(tlb, address)] == -align_down(address, PAGE_SIZE);
}

/* Has another page its entry there? It stays, unless it has to go. */
static bool has_other(const struct tlb *tlb, enum tlb_kind kind, u64 address)
{
	unsigned i = tlb_index(tlb, address);

	return tlb->part[kind].tag[i] != tag_none(i) && !has_own(tlb, kind, address);
}

/*
 * What can be written can be read, too: translated code counts on it.
 *
 * Who may have a tag to write? Not a page that is not dirty yet, for then the guest's tables
 * have to hear of it; not one that is watched; and not one with code. These come here each time,
 * and that is the whole trick: what is rare costs something, and what is common is not asked.
 *
 * Tour 6.431: Who gets a tag, and who does not
 */
static bool may_have(struct vcpu *vcpu, enum tlb_kind kind, u64 address, enum access system,
		     const struct mapping *mapping)
{
	u8 watched = vcpu->watch.armed ? debug_page(vcpu, address) : 0;

	switch (kind) {
	case TLB_READ:
		return !(watched & WATCH_READ) &&
		       paging_allowed(vcpu, ACCESS_READ | system, mapping->rights);
	case TLB_WRITE:
		return mapping->leaf & PTE_DIRTY && !watched &&
		       paging_allowed(vcpu, ACCESS_WRITE | system, mapping->rights) &&
		       page_allow_writing(vcpu, mapping->gpa);
	default:
		/* The kernel's view is shared with accesses by the system at CPL 3: rights differ
		 * there. */
		return !system && paging_allowed(vcpu, ACCESS_FETCH, mapping->rights);
	}
}

static void fill(struct vcpu *vcpu, u64 address, enum access access, const struct mapping *mapping,
		 u8 *host)
{
	struct lookup *lookup = vcpu_lookup(vcpu, view_of(vcpu, access));
	const u64 addend = align_down((u64)host, PAGE_SIZE) - align_down(address, PAGE_SIZE);

	if (!(vcpu->soft->options.soft_without & WITHOUT_LARGE_TLB))
		tlb_grow(lookup);
	for (enum tlb_kind kind = 0; kind < TLB_KINDS; kind++) {
		if (kind != kind_of(access) && has_other(&lookup->tlb, kind, address))
			continue;
		/* Only C asks for these: they can wait. */
		if (kind == TLB_FETCH && !(access & ACCESS_FETCH) &&
		    !has_own(&lookup->tlb, kind, address))
			continue;
		/* For the translator, which is about to take the right to write away. */
		if (kind == TLB_WRITE && access & ACCESS_FETCH)
			continue;
		if (may_have(vcpu, kind, address, access & ACCESS_SYSTEM, mapping))
			tlb_fill(lookup, kind, address, addend, mapping->flags);
		else
			tlb_forget(lookup, kind, address);
	}
}

/* Is the address in a page that the TLB has for that access? Then *host is where. */
static bool knows(const struct tlb *tlb, u64 address, enum access access, u8 **host)
{
	const struct tlb_part *part = &tlb->part[kind_of(access)];
	unsigned i = tlb_index(tlb, address);

	if (address + part->tag[i] >= PAGE_SIZE)
		return false;
	*host = (u8 *)(address + part->addend[i]);
	return true;
}

/*
 * Where this byte is: *host NULL: not in RAM. False: a fault.
 *
 * The slow way, once for each page: the guest's own tables are walked, with whatever fault that
 * may be, and if there is RAM at the end the TLB learns of it.
 *
 * Tour 6.432: A miss
 */
static bool look_up(struct vcpu *vcpu, u64 address, enum access access, u64 *gpa, u8 **host)
{
	struct mapping mapping = {0};

	address = linear_address(vcpu, address, access);
	if (!system_canonical(address))
		return raise_non_canonical(vcpu);
	vcpu->stats.tlb_misses[access & 3]++;
	if (!paging_walk(vcpu, address, access, &mapping))
		return false;
	*gpa = mapping.gpa;
	*host = ram_at(vcpu->soft, mapping.gpa);
	if (*host)
		fill(vcpu, address, access, &mapping, *host);
	return true;
}

u8 *mem_direct(struct vcpu *vcpu, u64 address, enum access access)
{
	const struct tlb *tlb = &vcpu_lookup(vcpu, view_of(vcpu, access))->tlb;
	bool pending = vcpu->exception.pending;
	u64 gpa;
	u8 *host;

	address = linear_address(vcpu, address, access);
	if (knows(tlb, address, access, &host))
		return host;
	if (!look_up(vcpu, address, access, &gpa, &host)) {
		vcpu->exception.pending = pending;
		return NULL;
	}
	return knows(tlb, address, access, &host) ? host : NULL;
}

bool mmu_translate(struct vcpu *vcpu, u64 address, enum access access, u64 *gpa)
{
	const struct tlb *tlb = &vcpu_lookup(vcpu, view_of(vcpu, access))->tlb;
	u8 *host;

	address = linear_address(vcpu, address, access);
	if (knows(tlb, address, access, &host)) {
		for (unsigned r = 0; r < vcpu->soft->ram_count; r++) {
			const struct ram *ram = &vcpu->soft->ram[r];

			if ((u64)(host - ram->host) < ram->size) {
				*gpa = ram->gpa + (host - ram->host);
				return true;
			}
		}
	}
	return look_up(vcpu, address, access, gpa, &host);
}

/* Outside 64-bit mode what is behind 4 GiB is 0; but not to the system's tables, in long mode. */
static u64 behind(const struct vcpu *vcpu, u64 address, enum access access)
{
	if (address >> 32 == 1 && vcpu->mode & MODE_CODE &&
	    !(access & ACCESS_SYSTEM && vcpu_long_mode(vcpu)))
		return (u32)address;
	return address;
}

bool mem_probe(struct vcpu *vcpu, u64 address, unsigned length, enum access access)
{
	u64 last = behind(vcpu, align_down(address + length - 1, PAGE_SIZE), access);

	if (!length)
		return true;
	if (!system_canonical(address + length - 1))
		return raise_non_canonical(vcpu);
	for (u64 at = address;; at = behind(vcpu, align_down(at, PAGE_SIZE) + PAGE_SIZE, access)) {
		u64 gpa;
		u8 *host;

		if (!mem_direct(vcpu, at, access) && !look_up(vcpu, at, access, &gpa, &host))
			return false;
		if (align_down(at, PAGE_SIZE) == last)
			return true;
	}
}

void mmu_set_pkru(struct vcpu *vcpu, u32 value)
{
	u32 changed = value ^ vcpu->pkru;

	vcpu->pkru = value;
	if (changed && vcpu->cr4 & X86_CR4_PKE)
		tlb_flush_keys(vcpu, changed);
}

static void copy(u8 *to, const u8 *from, unsigned length)
{
	for (unsigned i = 0; i < length; i++)
		to[i] = from[i];
}

/* One piece inside a page that was probed; an aligned one as a single access: others look at it
 * too. */
static void copy_ram(void *to, const void *from, unsigned length)
{
	if (length == 8)
		__builtin_memcpy(to, from, 8);
	else if (length == 4)
		__builtin_memcpy(to, from, 4);
	else if (length == 2)
		__builtin_memcpy(to, from, 2);
	else
		copy(to, from, length);
}

static void device_read(struct vcpu *vcpu, u64 gpa, u8 *to, unsigned length)
{
	while (length) {
		unsigned piece = MIN(length, 8);
		u64 value = mmio_read(vcpu, gpa, piece);

		copy(to, (u8 *)&value, piece);
		gpa += piece;
		to += piece;
		length -= piece;
	}
}

static void device_write(struct vcpu *vcpu, u64 gpa, const u8 *from, unsigned length)
{
	while (length) {
		unsigned piece = MIN(length, 8);
		u64 value = 0;

		copy((u8 *)&value, from, piece);
		mmio_write(vcpu, gpa, piece, value);
		gpa += piece;
		from += piece;
		length -= piece;
	}
}

bool mem_read(struct vcpu *vcpu, u64 address, void *to, unsigned length, enum access access)
{
	if (!mem_probe(vcpu, address, length, access))
		return false;
	while (length) {
		unsigned piece = MIN(length, PAGE_SIZE - address % PAGE_SIZE);
		const u8 *host = mem_direct(vcpu, address, access);
		u64 gpa;

		if (host) {
			copy_ram(to, host, piece);
		} else {
			if (!mmu_translate(vcpu, address, access, &gpa))
				return false;
			if (vcpu->watch.armed)
				debug_touched(vcpu, address, piece, WATCH_READ);
			host = ram_at(vcpu->soft, gpa);
			if (host)
				copy_ram(to, host, piece);
			else
				device_read(vcpu, gpa, to, piece);
		}
		address = behind(vcpu, address + piece, access);
		to = (u8 *)to + piece;
		length -= piece;
	}
	return true;
}

bool mem_write(struct vcpu *vcpu, u64 address, const void *from, unsigned length,
	       enum access access)
{
	access |= ACCESS_WRITE;
	if (!mem_probe(vcpu, address, length, access))
		return false;
	while (length) {
		unsigned piece = MIN(length, PAGE_SIZE - address % PAGE_SIZE);
		u8 *host = mem_direct(vcpu, address, access);
		u64 gpa;

		if (host) {
			copy_ram(host, from, piece);
		} else {
			if (!mmu_translate(vcpu, address, access, &gpa))
				return false;
			if (vcpu->watch.armed)
				debug_touched(vcpu, address, piece, WATCH_WRITE);
			host = ram_at(vcpu->soft, gpa);
			if (host) {
				copy_ram(host, from, piece);
				cache_written(vcpu, gpa, piece);
			} else {
				device_write(vcpu, gpa, from, piece);
			}
		}
		address = behind(vcpu, address + piece, access);
		from = (const u8 *)from + piece;
		length -= piece;
	}
	return true;
}

/* ------------------------------------------------------------------ events */

static bool x87_exception_pending(const struct vcpu *vcpu)
{
	u16 status;

	if (vcpu->vectors_saved)
		__builtin_memcpy(&status, vcpu->xsave + FXSAVE_STATUS, sizeof(status));
	else
		asm volatile("fnstsw %0" : "=a"(status));
	return status & X87_SUMMARY;
}

/*
 * What else is wrong with the instruction, and comes first: the order of Intel SDM 3A, "Priority
 * Among Concurrent Events". Where the access is allowed the host's CPU finds out by itself.
 */
static const void *access_fault(struct vcpu *vcpu, const struct site *site)
{
	if (site->flags & SITE_WAITS && x87_exception_pending(vcpu)) {
		raise_fault(vcpu, VECTOR_MF);
		return NULL;
	}
	if (site->flags & SITE_ALIGNED && vcpu->ctx.address % site->size) {
		raise_error(vcpu, VECTOR_GP, 0);
		return NULL;
	}
	if (site->flags & SITE_STACK)
		raised_through_stack(vcpu);
	return NULL;
}

/* A segment has its say before the pages. What is masked off is outside no limit. */
const void *mmu_segment(struct vcpu *vcpu, const struct site *site)
{
	struct masked masked;
	u64 offset = vcpu->ctx.address, touched;
	unsigned which, first = 0, size = site->size;
	enum access access;

	__builtin_memcpy(&masked, &site->arg, sizeof(masked));
	which = masked.segment & SEGMENT_NUMBER;
	access = masked.segment & SEGMENT_WRITES ? ACCESS_WRITE : ACCESS_READ;
	vcpu->ctx.address = (u32)(vcpu->ctx.base[which] + offset);
	if (masked.is && !masked.whole) {
		touched = evex_touched(vcpu, site);
		if (!touched)
			return site + 1;
		first = __builtin_ctzll(touched);
		size = 64 - __builtin_clzll(touched) - first;
		/* At the end of 4 GiB the silicon does not look. */
		if (vcpu->seg[which].limit == UINT32_MAX)
			first = 0, size = 1;
	}
	if (masked.segment & SEGMENT_CACHE && segment_is_code(&vcpu->seg[which]) &&
	    segment_reaches(&vcpu->seg[which], vcpu->ctx.base[which], offset, size))
		return site + 1;
	if (segment_access(vcpu, which, offset + first, size, access, &offset))
		return site + 1;
	return access_fault(vcpu, site);
}

/* Those bytes of a part that are touched, of an operand with a mask. */
static u64 touched_in(const struct vcpu *vcpu, unsigned part)
{
	unsigned first = vcpu->bounce.length[0];
	u64 touched = vcpu->bounce.touched;

	if (part)
		return first < 64 ? touched >> first : 0;
	return first < 64 ? touched & ((1ull << first) - 1) : touched;
}

/*
 * The next bytes of a part that are touched, *at or behind it: so many, 0: there are none. Without
 * a mask that is all of them at once.
 */
static unsigned next_run(const struct vcpu *vcpu, unsigned part, unsigned *at)
{
	u64 rest;

	if (*at >= vcpu->bounce.length[part])
		return 0;
	if (!vcpu->bounce.masked)
		return vcpu->bounce.length[part] - *at;
	rest = touched_in(vcpu, part) >> *at;
	if (!rest)
		return 0;
	*at += __builtin_ctzll(rest);
	return __builtin_ctzll(~(rest >> __builtin_ctzll(rest)));
}

/* One part. What nobody touches may be anywhere: it is treated as a device that is never asked. */
static bool find_part(struct vcpu *vcpu, unsigned part, u64 address, enum access access)
{
	unsigned at = 0;

	vcpu->bounce.host[part] = NULL;
	if (!next_run(vcpu, part, &at))
		return true;
	if (!look_up(vcpu, address + at, access, &vcpu->bounce.gpa[part], &vcpu->bounce.host[part]))
		return false;
	vcpu->bounce.gpa[part] -= at;
	if (vcpu->bounce.host[part])
		vcpu->bounce.host[part] -= at;
	return true;
}

/* Where both parts of the operand are. False: a fault, and nothing was touched. */
static bool find_parts(struct vcpu *vcpu, const struct site *site, enum access access)
{
	u64 address = vcpu->ctx.address;
	unsigned size = site->size;
	unsigned first = MIN(size, PAGE_SIZE - address % PAGE_SIZE);

	if (vcpu->mode & MODE_ALIGN && (size == 2 || size == 4 || size == 8) && address % size)
		return raise_error(vcpu, VECTOR_AC, 0);
	vcpu->bounce.masked = site->arg && !evex_wants_whole(site);
	if (site->arg)
		vcpu->bounce.touched = evex_touched(vcpu, site);
	if (vcpu->bounce.masked)
		size = vcpu->bounce.touched ? 64 - __builtin_clzll(vcpu->bounce.touched) : 0;
	/* One that ends outside is not canonical either, whatever its first page is. */
	if (size && !system_canonical(address + size - 1))
		return raise_non_canonical(vcpu);
	vcpu->bounce.length[0] = first;
	vcpu->bounce.length[1] = site->size - first;
	if (!find_part(vcpu, 0, address, access) ||
	    !find_part(vcpu, 1, behind(vcpu, address + first, access), access))
		return false;
	vcpu->bounce.masked = site->arg;
	return true;
}

/* Is any of it watched? Then not now, but alone: watch.h. */
static bool postpone(struct vcpu *vcpu, u8 how)
{
	u64 address = vcpu->ctx.address;
	bool later = false;

	for (unsigned i = 0; i < 2; i++) {
		unsigned run;

		for (unsigned at = 0; (run = next_run(vcpu, i, &at)); at += run)
			later |= debug_postpone(vcpu, address + at, run, how);
		address = behind(vcpu, address + vcpu->bounce.length[i], ACCESS_READ);
	}
	return later;
}

static void fill_bounce(struct vcpu *vcpu, u8 *to)
{
	for (unsigned i = 0; i < 2; i++) {
		const u8 *host = vcpu->bounce.host[i];
		unsigned run;

		for (unsigned at = 0; (run = next_run(vcpu, i, &at)); at += run)
			if (host)
				copy_ram(to + at, host + at, run);
			else
				device_read(vcpu, vcpu->bounce.gpa[i] + at, to + at, run);
		to += vcpu->bounce.length[i];
	}
}

/* Where in the buffer: misaligned there as it is misaligned in the guest. */
static u8 *bounce_place(struct vcpu *vcpu)
{
	return vcpu->bounce_buffer + vcpu->ctx.address % 64;
}

/* May it be written without telling anybody? */
static bool has_tag_to_write(struct vcpu *vcpu, u64 address)
{
	u8 *host;

	return knows(&vcpu_lookup(vcpu, vcpu->mode & MODE_VIEW)->tlb, address, ACCESS_WRITE, &host);
}

/*
 * Translated code asked the TLB where a read goes, and it did not know. If all is in one page
 * of RAM, now it is known, and the instruction goes on as if nothing had been. If not - two
 * pages, or a device - the bytes are collected in a buffer, and r10 made so that the
 * instruction finds them there.
 *
 * Tour 6.433: What no tag can say
 */
const void *mmu_load(struct vcpu *vcpu, const struct site *site)
{
	u64 address = vcpu->ctx.address;
	u8 *place = bounce_place(vcpu);

	if (!find_parts(vcpu, site, ACCESS_READ))
		return access_fault(vcpu, site);
	if (vcpu->watch.armed && postpone(vcpu, WATCH_READ))
		return NULL;
	if (vcpu->bounce.host[0] && !vcpu->bounce.length[1]) {
		vcpu->ctx.addend = (u64)vcpu->bounce.host[0] - address;
		return site + 1;
	}
	vcpu->stats.page_crossings += !!vcpu->bounce.length[1];
	fill_bounce(vcpu, place);
	vcpu->ctx.addend = (u64)place - address;
	return site + 1;
}

/*
 * The same for a write, with a second half: what the instruction left in the buffer is carried
 * to where it belongs by mmu_commit(), once it is over.
 *
 * Tour 6.434, 2 items: And for a write
 */
const void *mmu_store(struct vcpu *vcpu, const struct site *site)
{
	u64 address = vcpu->ctx.address;
	u8 *place = bounce_place(vcpu);

	vcpu->bounce.place = place;
	/* In two pages it is two writes, unless nobody else looks. */
	if (site->flags & SITE_LOCKED && address % PAGE_SIZE + site->size > PAGE_SIZE)
		vcpu_stop_others(vcpu);
	if (!find_parts(vcpu, site, ACCESS_WRITE))
		return access_fault(vcpu, site);
	if (vcpu->watch.armed && postpone(vcpu, WATCH_WRITE))
		return NULL;
	if (vcpu->bounce.host[0] && !vcpu->bounce.length[1]) {
		vcpu->ctx.addend = (u64)vcpu->bounce.host[0] - address;
		vcpu->bounce.pending = false;
		if (has_tag_to_write(vcpu, address))
			return site + 1;
		return (const u8 *)(site + 1) + SITE_SPECIAL;
	}
	vcpu->stats.page_crossings += !!vcpu->bounce.length[1];
	if (site->flags & SITE_READS)
		fill_bounce(vcpu, place);
	vcpu->bounce.pending = true;
	vcpu->ctx.addend = (u64)place - address;
	return (const u8 *)(site + 1) + SITE_SPECIAL;
}

bool mmu_commit(struct vcpu *vcpu)
{
	const u8 *from = vcpu->bounce.place;
	bool code = false;

	for (unsigned i = 0; i < 2; i++) {
		u64 gpa = vcpu->bounce.gpa[i];
		u8 *host = vcpu->bounce.host[i];
		unsigned run;

		for (unsigned at = 0; (run = next_run(vcpu, i, &at)); at += run) {
			if (host && vcpu->bounce.pending)
				copy_ram(host + at, from + at, run);
			if (host)
				code |= cache_written(vcpu, gpa + at, run);
			else
				device_write(vcpu, gpa + at, from + at, run);
		}
		from += vcpu->bounce.length[i];
	}
	vcpu_let_others_run(vcpu);
	return code;
}
