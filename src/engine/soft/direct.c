/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MOVDIR64B: 64 bytes from one place to another, of which nobody ever sees half. It has two memory
 * operands, so it does not pass; MOVDIRI, which has one, does. Called by the run loop.
 *
 * Tour 6.860: Sixty-four bytes at once
 */
#include "engine/soft/segment.h"

#define LEAF_STRUCTURED	   7u /* of CPUID */
#define ECX7_MOVDIR64B	   (1u << 28)
#define DIRECT_STORE_BYTES 64

/* One store, which nobody sees half of: so it is the host's own where that is possible. */
static bool store_directly(struct vcpu *vcpu, u64 address, const u8 *data)
{
	u8 *host = mem_direct(vcpu, address, ACCESS_WRITE);

	if (!host)
		return mem_write(vcpu, address, data, DIRECT_STORE_BYTES, ACCESS_WRITE);
	asm volatile("movdir64b (%0), %1" ::"r"(data), "r"(host) : "memory");
	return true;
}

/* Offered where the host has it. From [r/m] to where ModRM.reg says, through ES. */
bool move_64_bytes(struct vcpu *vcpu, const struct insn *insn)
{
	u8 data[DIRECT_STORE_BYTES] __attribute__((aligned(DIRECT_STORE_BYTES)));
	u64 offset = gpr_read(vcpu, insn->reg, insn->addrsize), from, to;
	struct cpuid_result features;

	cpuid_read(vcpu, LEAF_STRUCTURED, 0, &features);
	if (!(features.ecx & ECX7_MOVDIR64B))
		return raise_fault(vcpu, VECTOR_UD);
	if (!insn_access(vcpu, insn, 0, sizeof(data), ACCESS_READ, &from) ||
	    !segment_access(vcpu, ES, offset, sizeof(data), ACCESS_WRITE, &to))
		return false;
	if (to % DIRECT_STORE_BYTES)
		return raise_error(vcpu, VECTOR_GP, 0);
	return mem_read(vcpu, from, data, sizeof(data), ACCESS_READ) &&
	       store_directly(vcpu, to, data);
}
