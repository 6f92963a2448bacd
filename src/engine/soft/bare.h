/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running the guest's user code as it is, in a cell: what a vCPU keeps for it. The whole story is
 * in bare.c.
 *
 * Tour 6.1000: User code, as it is
 */
#ifndef ENGINE_SOFT_BARE_H
#define ENGINE_SOFT_BARE_H

#include "engine/soft/cell.h"

struct address_space;

/* Pages are mapped by windows of so many. What is remembered is a hint. */
#define BARE_WINDOW  64
#define BARE_WINDOWS 1024
/* And pages of RAM by so many of their number's bits. */
#define BARE_GIVEN_BITS 18

/* Whether an address space's user code is worth it. */
struct bare_case {
	bool wanted;	    /* it is, just now */
	s64 balance;	    /* ns: what it has gained of late */
	u32 ticks, backoff; /* it was not: since so many ticks, of so many */
};

struct bare {
	struct cell *cell;   /* NULL: there is none; it may be lost, too */
	bool alone;	     /* the next instruction is the translator's */
	unsigned orders;     /* that were given since */
	_Atomic bool inside; /* who kicks the vCPU kicks the cell */
	/* What is mapped: of which address space, as it was then. */
	const struct address_space *space;
	u64 version;
	bool large;	 /* pieces of large pages are among it */
	bool stale;	 /* all of it must go before the next use */
	u64 fault;	 /* where the cell could not go on; 0: nowhere */
	bool fault_code; /* and it was the next instruction */
	struct {
		u64 window; /* its number */
		u64 mapped; /* a bit for each page */
	} windows[BARE_WINDOWS];
	u64 given[(1u << BARE_GIVEN_BITS) / 64]; /* RAM that may be written or executed there */
};

#endif
