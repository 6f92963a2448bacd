/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue and a driver on one thread: see queue_fixture.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void queue_describe(struct queue *queue, const struct fake_driver *driver)
{
	*queue = (struct queue){
		.memory = driver->memory,
		.device = "test",
		.size = driver->size,
		.desc = driver->desc_gpa,
		.driver = driver->avail_gpa,
		.used = driver->used_gpa,
		.packed = driver->packed,
		.event_idx = driver->event_idx,
		.indirect = true,
	};
}

void start(struct queue_fixture *f, u16 size, bool event_idx)
{
	fake_driver_init(&f->driver, f->memory, AREA, RAM - AREA, size,
			 f->kind | (event_idx ? EVENT_IDX : 0));
	queue_describe(&f->queue, &f->driver);
	assert_true(queue_start(&f->queue, &f->violation));
}

static int setup(void **state, u64 kind)
{
	struct queue_fixture *f = calloc(1, sizeof(*f));
	struct problem problem;

	f->kind = kind;
	f->memory = memory_new(RAM, &problem);
	assert_non_null(f->memory);
	start(f, SIZE, false);
	*state = f;
	return 0;
}

int setup_split(void **state)
{
	return setup(state, 0);
}

int setup_packed(void **state)
{
	return setup(state, PACKED);
}

int teardown(void **state)
{
	struct queue_fixture *f = *state;

	memory_free(f->memory);
	free(f);
	return 0;
}

int pop(struct queue_fixture *f)
{
	return queue_pop(&f->queue, &f->chain, &f->violation);
}

int wants_interrupt(struct queue_fixture *f)
{
	return queue_wants_interrupt(&f->queue, &f->violation);
}

void assert_violation(const struct queue_fixture *f, const char *text, bool strict_only)
{
	assert_string_equal(f->violation.text, text);
	assert_int_equal(f->violation.strict_only, strict_only);
}

void assert_refused(struct queue_fixture *f, const char *text)
{
	memset(&f->violation, 0xff, sizeof(f->violation));
	assert_int_equal(pop(f), -EPROTO);
	assert_violation(f, text, false);
}

void check_areas(struct queue_fixture *f, const struct area_case *areas)
{
	for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
		f->queue.event_idx = event_idx;
		f->queue.desc = areas->desc;
		f->queue.driver = areas->driver;
		f->queue.used = areas->device;
		assert_int_equal(queue_start(&f->queue, &f->violation), !areas->text);
		if (areas->text)
			assert_violation(f, areas->text, false);
	}
}

void offer_raw(struct queue_fixture *f, u64 addr, u32 len, u16 flags)
{
	if (f->driver.packed) {
		fake_driver_put(&f->driver,
				(struct vring_packed_desc){addr, len, .id = 0, .flags = flags});
		f->driver.chain_len[0] = 1;
	} else {
		f->driver.desc[0] = (struct vring_desc){addr, len, flags, 0};
		fake_driver_offer(&f->driver, 0);
	}
	fake_driver_publish(&f->driver);
}

void assert_used(struct queue_fixture *f, u16 head, u32 written)
{
	u16 got_head;
	u32 got_written;

	assert_true(fake_driver_take(&f->driver, &got_head, &got_written));
	assert_int_equal(got_head, head);
	assert_int_equal(got_written, written);
}

void push_one(struct queue_fixture *f)
{
	struct fake_buffer buffer = {0, 1, true};
	u16 head;
	u32 written;

	assert_true(fake_driver_add(&f->driver, &buffer, 1) >= 0);
	fake_driver_publish(&f->driver);
	assert_int_equal(pop(f), 1);
	queue_push(&f->queue, &f->chain, 1);
	assert_true(fake_driver_take(&f->driver, &head, &written));
}

bool add_and_publish(struct queue_fixture *f)
{
	struct fake_buffer buffer = {0, 1, true};

	assert_true(fake_driver_add(&f->driver, &buffer, 1) >= 0);
	return fake_driver_publish(&f->driver);
}

static void note_write(void *opaque, u64 gpa, u64 len)
{
	struct writes *writes = opaque;

	assert_true(writes->count < ARRAY_SIZE(writes->gpa));
	writes->gpa[writes->count] = gpa;
	writes->len[writes->count++] = len;
}

void note_writes(struct queue_fixture *f)
{
	f->writes.count = 0;
	f->memory->written = note_write;
	f->memory->written_opaque = &f->writes;
}

bool was_noted(const struct writes *writes, u64 gpa, u64 len)
{
	for (unsigned i = 0; i < writes->count; i++)
		if (writes->gpa[i] == gpa && writes->len[i] == len)
			return true;
	return false;
}
