/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An engine that runs nothing: it writes down which interrupts the board asked
 * for, so that a test can look at them. Any thread may send; the ring keeps the
 * newest messages and counts them all.
 */
#ifndef FAKE_ENGINE_H
#define FAKE_ENGINE_H

#include "board/layout.h"
#include "engine/engine.h"

#define FAKE_ENGINE_RING 256

struct fake_message {
	u64 address;
	u32 data;
};

struct fake_route {
	u64 address;
	u32 data;
	bool level, masked;
	unsigned calls;
};

struct fake_engine {
	struct engine engine;
	struct engine_ops ops; /* this one's own: a test may add or take away */
	pthread_mutex_t lock;  /* guards what follows */
	struct fake_message messages[FAKE_ENGINE_RING];
	unsigned first, count;
	u64 sent; /* messages since fake_engine_init(), taken or not */
	struct fake_route routes[GSI_COUNT];

	/*
	 * Runs inside msi(), after the message was recorded and without our lock. NULL: nothing
	 * does.
	 */
	void (*on_msi)(void *opaque);
	void *opaque;
};

void fake_engine_init(struct fake_engine *fake);
void fake_engine_destroy(struct fake_engine *fake);

/* The oldest message that nobody took yet. False: there is none, and *message is all zero. */
bool fake_engine_take(struct fake_engine *fake, struct fake_message *message);

/* All messages ever sent. */
u64 fake_engine_sent(struct fake_engine *fake);

/* What the engine was told last about that pin. */
struct fake_route fake_engine_route(struct fake_engine *fake, unsigned pin);

#endif
