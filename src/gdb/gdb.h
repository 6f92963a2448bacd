/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --gdb: a debugger for the guest. GDB comes through a socket, one at a time; this listens,
 * and lets the guest go on when it has left. What it is told is session.c's, for whom the engine
 * does the work (engine/debug.h).
 *
 * All of it is the main thread's.
 *
 * Tour 8.50: A debugger comes by
 */
#ifndef GDB_GDB_H
#define GDB_GDB_H

#include "engine/engine.h"

#include <poll.h>

struct gdb_options {
	const char *path; /* of a Unix socket; NULL: none */
	unsigned port;	  /* TCP, on the loopback; 0: none */
	bool wait;	  /* no instruction before a debugger has come and said so */
};

struct gdb;

/*
 * Listen. NULL, and *gdb with it, if the options ask for nothing. What follows does nothing then.
 * -errno with *problem filled.
 */
int gdb_open(struct gdb **gdb, const struct gdb_options *options, struct problem *problem);
void gdb_close(struct gdb *gdb);

/* This is the engine, just opened. -errno with *problem filled. */
int gdb_attach(struct gdb *gdb, struct engine *engine, struct machine *machine, unsigned vcpus,
	       struct problem *problem);

/*
 * Stopping the guest may take long: see struct debugger. Meanwhile this is called, again and
 * again, with `opaque`; it does what the main thread does when it is not here.
 */
void gdb_meanwhile(struct gdb *gdb, void (*look_after)(void *opaque), void *opaque);

/* All vCPUs are there, and none runs yet: at each power-on. */
void gdb_power_on(struct gdb *gdb);

/* The machine has ended for good, with that status; no vCPU runs. */
void gdb_ended(struct gdb *gdb, int status);

/* For the main thread's poll(): so many descriptors, and what to do afterwards. */
#define GDB_DESCRIPTORS 3
unsigned gdb_poll(const struct gdb *gdb, struct pollfd *fds);
void gdb_polled(struct gdb *gdb, const struct pollfd *fds, unsigned count);

#endif
