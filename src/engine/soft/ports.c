/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IN, OUT, INS and OUTS: the guest talks to ports, and we carry the message to
 * the bus. Who may is asked here (IOPL, and the map of bits behind the TSS); who
 * answers is not our business.
 *
 * The string forms move one element after the other, and the guest's registers
 * with them, so that a fault, an interrupt or the end of the machine finds them
 * exact. Both are slow paths by nature: a port is a call to a device.
 *
 * Tour 6.770: Ports
 */
#include "engine/soft/system.h"

#include "board/board.h"

/* Of the opcode's last byte: the operand is a byte or not; the port is an immediate or in DX. */
#define OPCODE_WIDE 1u
#define OPCODE_DX   8u

/* Intel SDM 3A, "Task-State Segment": the map's offset in it, from where the 32-bit TSS ends. */
#define TSS_IOMAP 102u
#define TSS_END	  103u /* the least limit that covers that */

/* All bits of these ports clear, in the two bytes that a processor always reads. */
static bool iomap_allows(struct vcpu *vcpu, u16 port, unsigned length, bool *allowed)
{
	u32 mask = ((1u << length) - 1) << (port & 7);
	u16 map = 0, bits = 0;
	u64 offset;

	*allowed = false;
	if (!vcpu->tr.present || vcpu->tr.type != SYSTEM_TSS_BUSY || vcpu->tr.limit < TSS_END)
		return true;
	if (!mem_read(vcpu, vcpu->tr.base + TSS_IOMAP, &map, 2, ACCESS_READ | ACCESS_SYSTEM))
		return false;
	offset = (u64)map + port / 8;
	if (offset + 1 > vcpu->tr.limit)
		return true;
	if (!mem_read(vcpu, vcpu->tr.base + offset, &bits, 2, ACCESS_READ | ACCESS_SYSTEM))
		return false;
	*allowed = !(bits & mask);
	return true;
}

/* Intel SDM 1, "I/O Port Access Protection". False: a fault was raised. */
static bool port_allowed(struct vcpu *vcpu, u16 port, unsigned length)
{
	bool allowed;

	if (system_protected(vcpu) ? vcpu->cpl <= system_iopl(vcpu) : !(vcpu->cr0 & X86_CR0_PE))
		return true;
	if (!iomap_allows(vcpu, port, length, &allowed))
		return false;
	return allowed || raise_error(vcpu, VECTOR_GP, 0);
}

static void note_port(struct vcpu *vcpu, u16 port, unsigned length)
{
	if (vcpu->watch.armed & WATCH_PORT)
		debug_touched(vcpu, port, length, WATCH_PORT);
}

static u64 port_read(struct vcpu *vcpu, u16 port, unsigned length)
{
	u64 value;

	vectors_save(vcpu);
	vcpu->stats.port_reads++;
	note_port(vcpu, port, length);
	value = bus_read(vcpu->soft->engine.board->bus, PORT, port, length);
	TRACE(vcpu, IO, "in%u %#x: %#lx", 8 * length, port, (unsigned long)value);
	return value;
}

static void port_write(struct vcpu *vcpu, u16 port, unsigned length, u64 value)
{
	vectors_save(vcpu);
	vcpu->stats.port_writes++;
	note_port(vcpu, port, length);
	TRACE(vcpu, IO, "out%u %#x: %#lx", 8 * length, port, (unsigned long)value);
	bus_write(vcpu->soft->engine.board->bus, PORT, port, length, value);
}

/* REX.W does not make a port wider. */
static unsigned port_size(const struct insn *insn)
{
	if (!(insn->opcode & OPCODE_WIDE))
		return 1;
	return insn->opsize == 2 ? 2 : 4;
}

static u16 port_number(const struct vcpu *vcpu, const struct insn *insn)
{
	return insn->opcode & OPCODE_DX ? gpr_read(vcpu, RDX, 2) : (u8)insn->immediate;
}

bool system_in(struct vcpu *vcpu, const struct insn *insn)
{
	u16 port = port_number(vcpu, insn);
	unsigned size = port_size(insn);

	if (!port_allowed(vcpu, port, size))
		return false;
	gpr_write(vcpu, RAX, size, port_read(vcpu, port, size));
	return true;
}

bool system_out(struct vcpu *vcpu, const struct insn *insn)
{
	u16 port = port_number(vcpu, insn);
	unsigned size = port_size(insn);

	if (!port_allowed(vcpu, port, size))
		return false;
	port_write(vcpu, port, size, gpr_read(vcpu, RAX, size));
	return true;
}

/* ------------------------------------------------------------------ strings */

static void string_step(struct vcpu *vcpu, const struct insn *insn, unsigned reg, unsigned size)
{
	u64 offset = gpr_read(vcpu, reg, insn->addrsize);

	gpr_write(vcpu, reg, insn->addrsize, offset + vcpu->ctx.step[__builtin_ctz(size)]);
}

/* Memory first: what a port gave once it may not give again. */
static bool in_element(struct vcpu *vcpu, const struct insn *insn)
{
	unsigned size = port_size(insn);
	u64 address, value;

	if (!segment_access(vcpu, ES, gpr_read(vcpu, RDI, insn->addrsize), size, ACCESS_WRITE,
			    &address) ||
	    !mem_probe(vcpu, address, size, ACCESS_WRITE))
		return false;
	value = port_read(vcpu, gpr_read(vcpu, RDX, 2), size);
	if (!mem_write(vcpu, address, &value, size, ACCESS_WRITE))
		return false;
	string_step(vcpu, insn, RDI, size);
	return true;
}

static bool out_element(struct vcpu *vcpu, const struct insn *insn)
{
	unsigned size = port_size(insn);
	u64 address, value = 0;

	if (!segment_access(vcpu, insn->segment, gpr_read(vcpu, RSI, insn->addrsize), size,
			    ACCESS_READ, &address) ||
	    !mem_read(vcpu, address, &value, size, ACCESS_READ)) {
		if (insn->segment == SS)
			raised_through_stack(vcpu);
		return false;
	}
	port_write(vcpu, gpr_read(vcpu, RDX, 2), size, value);
	string_step(vcpu, insn, RSI, size);
	return true;
}

static bool wanted_elsewhere(struct vcpu *vcpu)
{
	return atomic_load_explicit(&vcpu->ctx.poll, memory_order_relaxed) ||
	       !machine_running(vcpu->soft->engine.board->machine);
}

/*
 * With a prefix, rcx elements, and then rip moves on; wherever we stop before, rip is the
 * instruction's own, and it begins anew with what is left.
 */
static bool repeat(struct vcpu *vcpu, const struct insn *insn, handler *element)
{
	u64 left;

	if (!port_allowed(vcpu, gpr_read(vcpu, RDX, 2), port_size(insn)))
		return false;
	if (!insn->repeat)
		return element(vcpu, insn);
	for (left = gpr_read(vcpu, RCX, insn->addrsize); left; left--) {
		if (!element(vcpu, insn))
			return false;
		gpr_write(vcpu, RCX, insn->addrsize, left - 1);
		if (left > 1 && wanted_elsewhere(vcpu)) {
			vcpu->ctx.rip = vcpu->insn_rip;
			break;
		}
	}
	return true;
}

bool system_ins(struct vcpu *vcpu, const struct insn *insn)
{
	return repeat(vcpu, insn, in_element);
}

bool system_outs(struct vcpu *vcpu, const struct insn *insn)
{
	return repeat(vcpu, insn, out_element);
}
