/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The checking build (make CHECKED=1): nobody believes the translator.
 *
 * After each probe of the TLB, and before the guest's instruction runs, translated code looks
 * whether the first and the last byte of the operand are in guest RAM, on the host. It does
 * so in a hurry: minus RAM's address, and no bits above the largest power of two that
 * is all RAM. What is not there - in what is left of RAM, in its second piece, in the
 * bounce buffer - is asked for here, where we look closely. What is nowhere ends the
 * machine before it happens, and is a bug of ours, whatever the guest did.
 *
 * Accesses by C are not looked at: they go through mem_read() and its like. Called by run.c.
 *
 * Tour 8.240: Believing nobody
 */
#include "board/board.h"
#include "engine/soft/translate.h"

/* All offsets below the largest power of two that fits into `size`. */
static u64 offset_bits(u64 size)
{
	return (1ull << (63 - __builtin_clzll(size))) - 1;
}

void check_prepare(struct vcpu *vcpu)
{
	const struct ram *ram = &vcpu->soft->ram[0];

	vcpu->ctx.check_base = -(u64)ram->host;
	vcpu->ctx.check_mask = ~offset_bits(ram->size);
}

static bool inside(u64 at, u64 size, const u8 *from, u64 length)
{
	u64 offset = at - (u64)from;

	return offset < length && size <= length - offset;
}

bool check_access(struct vcpu *vcpu, const struct site *site)
{
	struct machine *machine = vcpu->soft->engine.board->machine;
	u64 at = vcpu->ctx.address + vcpu->ctx.addend;

	for (unsigned i = 0; i < vcpu->soft->ram_count; i++)
		if (inside(at, site->size, vcpu->soft->ram[i].host, vcpu->soft->ram[i].size))
			return true;
	if (inside(at, site->size, vcpu->bounce_buffer, sizeof(vcpu->bounce_buffer)))
		return true;
	vectors_save(vcpu);
	vcpu->insn_rip = vcpu->ctx.rip = vcpu_rip(vcpu, vcpu->ctx.page + site->offset);
	vcpu->leave = true;
	machine_stop(machine, EXIT_CRASHED,
		     "vCPU %u: the translator made an access outside the guest: rip 0x%llx, "
		     "%u bytes at 0x%llx, which would be 0x%llx on the host",
		     vcpu->index, (unsigned long long)vcpu->insn_rip, site->size,
		     (unsigned long long)vcpu->ctx.address, (unsigned long long)at);
	return false;
}
