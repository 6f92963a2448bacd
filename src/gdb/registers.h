/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vCPU's registers as GDB numbers and names them. GDB believes what the target description
 * says; it and the numbers come from one table, so that they cannot differ.
 *
 * Tour 8.110: Registers, as GDB numbers them
 */
#ifndef GDB_REGISTERS_H
#define GDB_REGISTERS_H

#include "engine/engine.h"

#define GDB_REGISTER_MAX 32 /* bytes of the largest */
#define GDB_REGISTERS	 192

/* Where a vCPU's registers are while we have them in our hands. */
struct gdb_values {
	struct cpu_state state;
	struct debug_xsave xsave;
};

struct gdb_register_row;

/* Those that this machine has, in GDB's order. */
struct gdb_registers {
	u64 features; /* of struct debug_xsave */
	unsigned count;
	struct {
		const struct gdb_register_row *row;
		unsigned index; /* in the row */
	} list[GDB_REGISTERS];
};

void gdb_registers_init(struct gdb_registers *registers, u64 features);

/* The target description, to be freed. NULL: out of memory. */
char *gdb_registers_describe(const struct gdb_registers *registers);

/* Bytes of register n, below `count`. */
unsigned gdb_register_size(const struct gdb_registers *registers, unsigned n);
/* Is it one of the vector and x87 registers? */
bool gdb_register_in_xsave(const struct gdb_registers *registers, unsigned n);
void gdb_register_get(const struct gdb_registers *registers, unsigned n,
		      const struct gdb_values *values, u8 *to);
void gdb_register_set(const struct gdb_registers *registers, unsigned n, struct gdb_values *values,
		      const u8 *from);

/* What an engine left out because it has its initial value is filled in: before any of these. */
void gdb_xsave_complete(struct debug_xsave *xsave);

#endif
