/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fake engine: see fake_engine.h. It holds no opinion about what it is
 * sent; the tests do.
 */
#include "fake_engine.h"

#include <string.h>

static void record_msi(struct engine *engine, u64 address, u32 data)
{
	struct fake_engine *fake = container_of(engine, struct fake_engine, engine);

	pthread_mutex_lock(&fake->lock);
	if (fake->count == FAKE_ENGINE_RING) {
		fake->first = (fake->first + 1) % FAKE_ENGINE_RING;
		fake->count--;
	}
	fake->messages[(fake->first + fake->count) % FAKE_ENGINE_RING] =
		(struct fake_message){.address = address, .data = data};
	fake->count++;
	fake->sent++;
	pthread_mutex_unlock(&fake->lock);

	if (fake->on_msi)
		fake->on_msi(fake->opaque);
}

static void record_route(struct engine *engine, unsigned pin, u64 address, u32 data, bool level,
			 bool masked)
{
	struct fake_engine *fake = container_of(engine, struct fake_engine, engine);

	pthread_mutex_lock(&fake->lock);
	fake->routes[pin] = (struct fake_route){
		.address = address,
		.data = data,
		.level = level,
		.masked = masked,
		.calls = fake->routes[pin].calls + 1,
	};
	pthread_mutex_unlock(&fake->lock);
}

void fake_engine_init(struct fake_engine *fake)
{
	memset(fake, 0, sizeof(*fake));
	pthread_mutex_init(&fake->lock, NULL);
	fake->ops = (struct engine_ops){
		.name = "fake",
		.msi = record_msi,
		.ioapic_route = record_route,
	};
	fake->engine.ops = &fake->ops;
}

void fake_engine_destroy(struct fake_engine *fake)
{
	pthread_mutex_destroy(&fake->lock);
}

bool fake_engine_take(struct fake_engine *fake, struct fake_message *message)
{
	bool any;

	*message = (struct fake_message){0};
	pthread_mutex_lock(&fake->lock);
	any = fake->count > 0;
	if (any) {
		*message = fake->messages[fake->first];
		fake->first = (fake->first + 1) % FAKE_ENGINE_RING;
		fake->count--;
	}
	pthread_mutex_unlock(&fake->lock);
	return any;
}

u64 fake_engine_sent(struct fake_engine *fake)
{
	u64 sent;

	pthread_mutex_lock(&fake->lock);
	sent = fake->sent;
	pthread_mutex_unlock(&fake->lock);
	return sent;
}

struct fake_route fake_engine_route(struct fake_engine *fake, unsigned pin)
{
	struct fake_route route;

	pthread_mutex_lock(&fake->lock);
	route = fake->routes[pin];
	pthread_mutex_unlock(&fake->lock);
	return route;
}
