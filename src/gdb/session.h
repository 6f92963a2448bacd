/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a debugger says, and what is done about it: payloads in, replies out. No socket is known
 * here, nor any checksum.
 *
 * The guest runs, or it is stopped as a whole: GDB's all-stop mode. Nothing but an interrupt is
 * listened to while it runs.
 *
 * Tour 8.90: Commands
 */
#ifndef GDB_SESSION_H
#define GDB_SESSION_H

#include "engine/engine.h"
#include "gdb/protocol.h"
#include "gdb/registers.h"

#include <pthread.h>

#define GDB_POINTS 1024

struct gdb_point {
	struct debug_point point;
	bool set; /* the engine has it; after a reboot it may not have taken it */
};

struct gdb_session {
	struct debugger debugger;
	struct engine *engine;
	struct machine *machine;
	unsigned vcpus;
	int wake_fd; /* eventfd: look at what stopped */
	/* What the main thread does while a vCPU keeps it waiting. NULL: nothing. */
	void (*meanwhile)(void *opaque);
	void *opaque;

	bool present;	       /* a debugger is there */
	bool running;	       /* the vCPUs are let go, or were never held */
	bool detached;	       /* it said so: goodbye */
	bool no_ack;	       /* QStartNoAckMode */
	bool swbreak, hwbreak; /* it wants to be told */
	bool physical;	       /* monitor memory physical */
	unsigned general;      /* vCPU that its questions are about */
	unsigned stepped;      /* and the one that 's' is about */
	struct gdb_registers registers;
	char *description;
	struct gdb_values values;   /* of the moment */
	enum debug_action *actions; /* one per vCPU: what they were let go to do */
	unsigned point_count;
	struct gdb_point points[GDB_POINTS];

	pthread_mutex_t lock; /* guards the two below */
	unsigned stop_count;
	struct debug_stop *stops; /* in their order; one of a vCPU at most */
};

/* -errno. The engine's debug operations are there. `wait`: it begins stopped. */
int gdb_session_init(struct gdb_session *session, struct engine *engine, struct machine *machine,
		     unsigned vcpus, bool wait);
void gdb_session_destroy(struct gdb_session *session);

/* At each power-on: all vCPUs are there, none runs. */
void gdb_session_power_on(struct gdb_session *session);

/* A debugger has come: the guest stops. -errno: it cannot be served. */
int gdb_session_begin(struct gdb_session *session);
/* It is gone: the guest runs. */
void gdb_session_end(struct gdb_session *session);

/*
 * These return whether there is a reply. A payload has a 0 behind it. Then look whether the
 * session is `detached`.
 */
bool gdb_session_packet(struct gdb_session *session, const char *payload, size_t length,
			struct gdb_reply *reply);
bool gdb_session_interrupt(struct gdb_session *session, struct gdb_reply *reply);
/* wake_fd said that there is something. */
bool gdb_session_stopped(struct gdb_session *session, struct gdb_reply *reply);
/* The machine ended with that exit status. */
bool gdb_session_ended(struct gdb_session *session, int status, struct gdb_reply *reply);

#endif
