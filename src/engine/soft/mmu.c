/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory management unit: from the guest's virtual addresses to the host's.
 *
 * Translated code asks the TLB itself and comes here when that does not know
 * (mmu_load(), mmu_store()): then the guest's page tables are walked, as the
 * processor would, and the TLB is filled. What no TLB entry can express - an access that
 * crosses into another page, a device, a page that holds code - runs on the bounce
 * buffer: we fill it, translated code executes the very same instruction on it, and
 * mmu_commit() carries the result where it belongs.
 */
#include "board/board.h"
#include "board/layout.h"
#include "engine/soft/system.h"
#include "engine/soft/translate.h"

#include <asm/processor-flags.h>

/* Intel SDM 3A, "4-Level Paging": bits of an entry. */
#define PTE_PRESENT  (1ull << 0)
#define PTE_WRITE    (1ull << 1)
#define PTE_USER     (1ull << 2)
#define PTE_ACCESSED (1ull << 5)
#define PTE_DIRTY    (1ull << 6)
#define PTE_LARGE    (1ull << 7)
#define PTE_GLOBAL   (1ull << 8)
#define PTE_NX	     (1ull << 63)
#define PTE_ADDRESS  0x000ffffffffff000ull

/* "Page-Fault Exceptions": bits of the error code. */
#define FAULT_PRESENT  1u
#define FAULT_WRITE    2u
#define FAULT_USER     4u
#define FAULT_RESERVED 8u
#define FAULT_FETCH    16u

/* What a walk found. */
struct mapping {
	u64 gpa;
	u64 rights; /* PTE_WRITE, PTE_USER: allowed by all levels; PTE_NX: forbidden by any */
	u64 leaf;
	u8 flags;
};

/*
 * A tag that no address can match in this entry. The page that it would match is not canonical, and
 * has another index, and so has the page before (from which an access may reach over).
 */
static u64 tag_none(unsigned index)
{
	u64 other = index < TLB_ENTRIES / 2 ? TLB_ENTRIES / 2 + 1 : 1;

	return -((1ull << 62) + other * PAGE_SIZE);
}

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
		jump_caches_flush(vcpu);
	}
	vcpu->stats.tlb_flushes++;
	vcpu->stats.tlb_flushes_all += global_too;
	TRACE(vcpu, MMU, "flush%s cr3 0x%llx", global_too ? " all" : "",
	      (unsigned long long)vcpu->cr3);
}

static bool same_large_page(const struct tlb *tlb, unsigned i, u64 address)
{
	u64 size = tlb->flags[i] & TLB_1G ? GiB(1) : MiB(2);
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
			if (tlb->flags[i] & (TLB_2M | TLB_1G) && same_large_page(tlb, i, address))
				forget(tlb, i);
	}
	/* Of a large page only one piece is named: any may have been run. */
	if (large || jump_page_is_noted(vcpu, address))
		jump_caches_flush(vcpu);
	vcpu->stats.invlpgs++;
	TRACE(vcpu, MMU, "invlpg 0x%llx", (unsigned long long)address);
}

/* The page has code now: every write to it must come here. */
void mmu_forget_writable(struct vcpu *vcpu, const u8 *host_page)
{
	for (unsigned view = 0; view < VIEWS; view++) {
		struct tlb *tlb = &vcpu->ctx.tlb[view];

		for (unsigned i = 0; i < TLB_ENTRIES; i++)
			if (tlb->write[i] != tag_none(i) &&
			    (u64)host_page + tlb->write[i] == tlb->addend[i])
				tlb->write[i] = tag_none(i);
	}
}

u8 *ram_at(const struct soft *soft, u64 gpa)
{
	for (unsigned i = 0; i < soft->ram_count; i++)
		if (gpa - soft->ram[i].gpa < soft->ram[i].size)
			return soft->ram[i].host + (gpa - soft->ram[i].gpa);
	return NULL;
}

static bool in_apic(const struct vcpu *vcpu, u64 gpa)
{
	return align_down(gpa, PAGE_SIZE) == LAYOUT_LAPIC &&
	       (lapic_base_get((struct vcpu *)vcpu) & (APIC_BASE_ENABLE | APIC_BASE_X2)) ==
		       APIC_BASE_ENABLE;
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

static bool fault(struct vcpu *vcpu, u64 address, enum access access, u32 error)
{
	if (access & ACCESS_WRITE)
		error |= FAULT_WRITE;
	if (vcpu->cpl == 3 && !(access & ACCESS_SYSTEM))
		error |= FAULT_USER;
	if (access & ACCESS_FETCH && (vcpu->efer & EFER_NX || vcpu->cr4 & X86_CR4_SMEP))
		error |= FAULT_FETCH;
	TRACE(vcpu, MMU, "fault 0x%llx error %u rip 0x%llx", (unsigned long long)address, error,
	      (unsigned long long)vcpu->insn_rip);
	return raise_page_fault(vcpu, address, error);
}

/* Bits that must be 0 in an entry at this level. */
static u64 reserved_bits(const struct vcpu *vcpu, unsigned level, u64 entry)
{
	u64 bits = PTE_ADDRESS & ~((1ull << cpuid_address_bits()) - 1);

	if (!(vcpu->efer & EFER_NX))
		bits |= PTE_NX;
	if (level == 3)
		bits |= PTE_LARGE;
	/* Bit 12 of a large page's is for the PAT. */
	else if (level && entry & PTE_LARGE)
		bits |= ((1ull << (12 + 9 * level)) - 1) & PTE_ADDRESS & ~(1ull << 12);
	return bits;
}

/* May this access be done with these rights? Only of pages that are present. */
static bool allowed(const struct vcpu *vcpu, enum access access, u64 rights)
{
	bool user = vcpu->cpl == 3 && !(access & ACCESS_SYSTEM);

	if (user && !(rights & PTE_USER))
		return false;
	if (access & ACCESS_FETCH)
		return !(rights & PTE_NX) &&
		       (user || !(rights & PTE_USER) || !(vcpu->cr4 & X86_CR4_SMEP));
	if (!user && rights & PTE_USER && vcpu->cr4 & X86_CR4_SMAP &&
	    (access & ACCESS_SYSTEM || (vcpu->mode & MODE_VIEW) != VIEW_KERNEL_AC))
		return false;
	if (access & ACCESS_WRITE && !(rights & PTE_WRITE))
		return !user && !(vcpu->cr0 & X86_CR0_WP);
	return true;
}

/* Set bits in an entry that another CPU may change meanwhile: false: it did. */
static bool set_bits(u64 *entry, u64 old, u64 bits)
{
	return (old & bits) == bits ||
	       __atomic_compare_exchange_n(entry, &old, old | bits, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

/* One try: -1: the tables changed under us. */
static int walk_once(struct vcpu *vcpu, u64 address, enum access access, struct mapping *found)
{
	u64 *entries[4], values[4];
	u64 table = vcpu->cr3 & PTE_ADDRESS, rights = PTE_WRITE | PTE_USER;
	unsigned level = 4;
	u64 entry, offset;

	do {
		level--;
		entries[level] = (u64 *)ram_at(vcpu->soft, table);
		if (entries[level]) {
			entries[level] += address >> (12 + 9 * level) & 511;
			values[level] = __atomic_load_n(entries[level], __ATOMIC_ACQUIRE);
		} else {
			/* A table where nothing is reads as all ones. */
			values[level] = ~0ull;
		}
		entry = values[level];
		if (!(entry & PTE_PRESENT))
			return fault(vcpu, address, access, 0);
		if (entry & reserved_bits(vcpu, level, entry))
			return fault(vcpu, address, access, FAULT_PRESENT | FAULT_RESERVED);
		rights &= entry | PTE_NX;
		rights |= entry & PTE_NX;
		table = entry & PTE_ADDRESS;
	} while (level && !(level < 3 && entry & PTE_LARGE));
	if (!allowed(vcpu, access, rights))
		return fault(vcpu, address, access, FAULT_PRESENT);
	for (unsigned i = 4; i-- > level;)
		if (entries[i] &&
		    !set_bits(entries[i], values[i],
			      i == level && access & ACCESS_WRITE ? PTE_ACCESSED | PTE_DIRTY
								  : PTE_ACCESSED))
			return -1;
	if (access & ACCESS_WRITE)
		entry |= PTE_DIRTY;
	offset = (1ull << (12 + 9 * level)) - 1;
	*found = (struct mapping){
		.gpa = (entry & PTE_ADDRESS & ~offset) | (address & offset),
		.rights = rights,
		.leaf = entry,
		.flags = level == 2   ? TLB_1G
			 : level == 1 ? TLB_2M
				      : 0,
	};
	if (entry & PTE_GLOBAL && vcpu->cr4 & X86_CR4_PGE)
		found->flags |= TLB_GLOBAL;
	return true;
}

static bool walk(struct vcpu *vcpu, u64 address, enum access access, struct mapping *found)
{
	bool user = vcpu->cpl == 3 && !(access & ACCESS_SYSTEM);
	int done;

	if (!(vcpu->cr0 & X86_CR0_PG)) {
		*found = (struct mapping){
			.gpa = (u32)address,
			/* Nobody asks whose it is: neither SMEP nor SMAP, nor a user at CPL 3. */
			.rights = PTE_WRITE | (user ? PTE_USER : 0),
			.leaf = PTE_DIRTY,
			.flags = TLB_GLOBAL,
		};
		return true;
	}
	if (!vcpu_long_mode(vcpu))
		return fault(vcpu, address, access, 0);
	do
		done = walk_once(vcpu, address, access, found);
	while (done < 0);
	return done;
}

static enum view view_of(const struct vcpu *vcpu, enum access access)
{
	return access & ACCESS_SYSTEM ? VIEW_KERNEL : vcpu->mode & MODE_VIEW;
}

static void fill(struct vcpu *vcpu, u64 address, enum access access, const struct mapping *mapping,
		 u8 *host)
{
	struct tlb *tlb = &vcpu->ctx.tlb[view_of(vcpu, access)];
	unsigned i = tlb_index(address);
	u64 page = align_down(address, PAGE_SIZE);
	enum access system = access & ACCESS_SYSTEM;
	bool writable = mapping->leaf & PTE_DIRTY &&
			allowed(vcpu, ACCESS_WRITE | system, mapping->rights) &&
			!cache_page_has_code(vcpu->soft, mapping->gpa);

	/* The kernel's view is shared with accesses by the system at CPL 3: rights differ there. */
	tlb->read[i] = allowed(vcpu, ACCESS_READ | system, mapping->rights) ? -page : tag_none(i);
	tlb->write[i] = writable ? -page : tag_none(i);
	tlb->fetch[i] =
		!system && allowed(vcpu, ACCESS_FETCH, mapping->rights) ? -page : tag_none(i);
	tlb->addend[i] = (u64)align_down((u64)host, PAGE_SIZE) - page;
	tlb->flags[i] = mapping->flags;
	if (mapping->flags & (TLB_2M | TLB_1G))
		vcpu->large_filter |=
			mapping->flags & TLB_1G ? ~0ull : 1ull << address / MiB(2) % 64;
}

static u64 tag_for(const struct tlb *tlb, unsigned i, enum access access)
{
	return access & ACCESS_WRITE   ? tlb->write[i]
	       : access & ACCESS_FETCH ? tlb->fetch[i]
				       : tlb->read[i];
}

/* Where this byte is: *host NULL: not in RAM. False: a fault. */
static bool look_up(struct vcpu *vcpu, u64 address, enum access access, u64 *gpa, u8 **host)
{
	struct mapping mapping = {0};

	if (!system_canonical(address))
		return raise_non_canonical(vcpu);
	vcpu->stats.tlb_misses[access & 3]++;
	if (!walk(vcpu, address, access, &mapping))
		return false;
	*gpa = mapping.gpa;
	*host = ram_at(vcpu->soft, mapping.gpa);
	if (*host)
		fill(vcpu, address, access, &mapping, *host);
	return true;
}

u8 *mem_direct(struct vcpu *vcpu, u64 address, enum access access)
{
	struct tlb *tlb = &vcpu->ctx.tlb[view_of(vcpu, access)];
	unsigned i = tlb_index(address);

	if (address + tag_for(tlb, i, access) >= PAGE_SIZE) {
		u64 gpa;
		u8 *host;
		bool pending = vcpu->exception.pending;

		if (!look_up(vcpu, address, access, &gpa, &host)) {
			vcpu->exception.pending = pending;
			return NULL;
		}
		if (address + tag_for(tlb, i, access) >= PAGE_SIZE)
			return NULL;
	}
	return (u8 *)(address + tlb->addend[i]);
}

bool mmu_translate(struct vcpu *vcpu, u64 address, enum access access, u64 *gpa)
{
	struct tlb *tlb = &vcpu->ctx.tlb[view_of(vcpu, access)];
	unsigned i = tlb_index(address);
	u8 *host;

	if (address + tag_for(tlb, i, access) < PAGE_SIZE) {
		const u8 *at = (const u8 *)(address + tlb->addend[i]);

		for (unsigned r = 0; r < vcpu->soft->ram_count; r++) {
			const struct ram *ram = &vcpu->soft->ram[r];

			if ((u64)(at - ram->host) < ram->size) {
				*gpa = ram->gpa + (at - ram->host);
				return true;
			}
		}
	}
	return look_up(vcpu, address, access, gpa, &host);
}

bool mem_probe(struct vcpu *vcpu, u64 address, unsigned length, enum access access)
{
	u64 last = align_down(address + length - 1, PAGE_SIZE);

	if (!length)
		return true;
	if (!system_canonical(address + length - 1))
		return raise_non_canonical(vcpu);
	for (u64 at = address;; at = align_down(at, PAGE_SIZE) + PAGE_SIZE) {
		u64 gpa;
		u8 *host;

		if (!mem_direct(vcpu, at, access) && !look_up(vcpu, at, access, &gpa, &host))
			return false;
		if (align_down(at, PAGE_SIZE) == last)
			return true;
	}
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

		if (host)
			copy_ram(to, host, piece);
		else if (mmu_translate(vcpu, address, access, &gpa))
			device_read(vcpu, gpa, to, piece);
		else
			return false;
		address += piece;
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
			host = ram_at(vcpu->soft, gpa);
			if (host) {
				copy_ram(host, from, piece);
				cache_invalidate(vcpu, gpa, piece);
			} else {
				device_write(vcpu, gpa, from, piece);
			}
		}
		address += piece;
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

/* Where both parts of the operand are. False: a fault, and nothing was touched. */
static bool find_parts(struct vcpu *vcpu, u64 address, unsigned size, enum access access)
{
	unsigned first = MIN(size, PAGE_SIZE - address % PAGE_SIZE);

	if (vcpu->mode & MODE_ALIGN && (size == 2 || size == 4 || size == 8) && address % size)
		return raise_error(vcpu, VECTOR_AC, 0);
	/* One that ends outside is not canonical either, whatever its first page is. */
	if (!system_canonical(address + size - 1))
		return raise_non_canonical(vcpu);
	vcpu->bounce.length[0] = first;
	vcpu->bounce.length[1] = size - first;
	if (!look_up(vcpu, address, access, &vcpu->bounce.gpa[0], &vcpu->bounce.host[0]))
		return false;
	return first == size ||
	       look_up(vcpu, address + first, access, &vcpu->bounce.gpa[1], &vcpu->bounce.host[1]);
}

static void fill_bounce(struct vcpu *vcpu, u8 *to)
{
	for (unsigned i = 0; i < 2; i++) {
		unsigned length = vcpu->bounce.length[i];

		if (!length)
			break;
		if (vcpu->bounce.host[i])
			copy_ram(to, vcpu->bounce.host[i], length);
		else
			device_read(vcpu, vcpu->bounce.gpa[i], to, length);
		to += length;
	}
}

/* Where in the buffer: misaligned there as it is misaligned in the guest. */
static u8 *bounce_place(struct vcpu *vcpu)
{
	return vcpu->bounce_buffer + vcpu->ctx.address % 64;
}

const void *mmu_load(struct vcpu *vcpu, const struct site *site)
{
	u64 address = vcpu->ctx.address;
	u8 *place = bounce_place(vcpu);

	if (!find_parts(vcpu, address, site->size, ACCESS_READ))
		return access_fault(vcpu, site);
	if (vcpu->bounce.host[0] && !vcpu->bounce.length[1]) {
		vcpu->ctx.addend = (u64)vcpu->bounce.host[0] - address;
		return site + 1;
	}
	vcpu->stats.page_crossings += !!vcpu->bounce.length[1];
	fill_bounce(vcpu, place);
	vcpu->ctx.addend = (u64)place - address;
	return site + 1;
}

const void *mmu_store(struct vcpu *vcpu, const struct site *site)
{
	u64 address = vcpu->ctx.address;
	u8 *place = bounce_place(vcpu);

	vcpu->bounce.place = place;
	if (!find_parts(vcpu, address, site->size, ACCESS_WRITE))
		return access_fault(vcpu, site);
	if (vcpu->bounce.host[0] && !vcpu->bounce.length[1]) {
		vcpu->ctx.addend = (u64)vcpu->bounce.host[0] - address;
		vcpu->bounce.pending = false;
		if (!cache_page_has_code(vcpu->soft, vcpu->bounce.gpa[0]))
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
		unsigned length = vcpu->bounce.length[i];
		u8 *host = vcpu->bounce.host[i];

		if (!length)
			break;
		if (host && vcpu->bounce.pending)
			copy_ram(host, from, length);
		if (host && cache_page_has_code(vcpu->soft, vcpu->bounce.gpa[i]))
			code |= cache_invalidate(vcpu, vcpu->bounce.gpa[i], length);
		if (!host)
			device_write(vcpu, vcpu->bounce.gpa[i], from, length);
		from += length;
	}
	return code;
}
