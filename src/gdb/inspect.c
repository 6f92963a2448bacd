/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A debugger's commands that look at the guest while it is stopped, and change it: registers,
 * memory, breakpoints and watchpoints. session.c calls them, each by its letter.
 *
 * Tour 8.104: To look, and to change
 */
#include "gdb/commands.h"

#include <errno.h>
#include <string.h>

/* ------------------------------------------------------------------ registers */

static int load(struct gdb_session *session, bool xsave)
{
	int err = gdb_ops(session)->get_state(session->engine, session->general,
					      &session->values.state);

	if (err || !xsave)
		return err;
	err = gdb_ops(session)->get_xsave(session->engine, session->general,
					  &session->values.xsave);
	if (!err)
		gdb_xsave_complete(&session->values.xsave);
	return err;
}

static int store_state(struct gdb_session *session)
{
	return gdb_ops(session)->set_state(session->engine, session->general,
					   &session->values.state);
}

static int store_xsave(struct gdb_session *session)
{
	return gdb_ops(session)->set_xsave(session->engine, session->general,
					   &session->values.xsave);
}

static void put_register(struct gdb_session *session, unsigned n, struct gdb_reply *reply)
{
	u8 value[GDB_REGISTER_MAX];

	gdb_register_get(&session->registers, n, &session->values, value);
	gdb_put_hex(reply, value, gdb_register_size(&session->registers, n));
}

static bool take_register(struct gdb_session *session, unsigned n, struct gdb_text *text)
{
	u8 value[GDB_REGISTER_MAX];

	if (!gdb_take_hex(text, value, gdb_register_size(&session->registers, n)))
		return false;
	gdb_register_set(&session->registers, n, &session->values, value);
	return true;
}

int gdb_command_get_all(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	int err = load(session, true);

	(void)text;
	for (unsigned i = 0; !err && i < session->registers.count; i++)
		put_register(session, i, reply);
	return err;
}

int gdb_command_set_all(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	int err = load(session, true);

	for (unsigned i = 0; !err && i < session->registers.count; i++)
		if (!take_register(session, i, text))
			err = -EINVAL;
	if (!err)
		err = store_xsave(session);
	if (!err)
		err = store_state(session);
	if (!err)
		gdb_put(reply, "OK");
	return err;
}

int gdb_command_get_one(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	u64 n;
	int err;

	if (!gdb_take_number(text, &n) || n >= session->registers.count)
		return -EINVAL;
	err = load(session, gdb_register_in_xsave(&session->registers, n));
	if (!err)
		put_register(session, n, reply);
	return err;
}

int gdb_command_set_one(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	bool xsave;
	u64 n;
	int err;

	if (!gdb_take_number(text, &n) || n >= session->registers.count || !gdb_skip(text, "="))
		return -EINVAL;
	xsave = gdb_register_in_xsave(&session->registers, n);
	err = load(session, xsave);
	if (!err && !take_register(session, n, text))
		err = -EINVAL;
	if (!err)
		err = xsave ? store_xsave(session) : store_state(session);
	if (!err)
		gdb_put(reply, "OK");
	return err;
}

/* ------------------------------------------------------------------ memory */

/* Up to the end of a page: how much. -errno: nothing there. */
static int access_page(struct gdb_session *session, u64 address, u8 *data, u64 length, bool write)
{
	const u64 room = MIN(length, PAGE_SIZE - address % PAGE_SIZE);
	u64 gpa = address;
	int err = 0;

	if (!session->physical)
		err = gdb_ops(session)->translate(session->engine, session->general, address, &gpa);
	if (!err)
		err = write ? gdb_ops(session)->write(session->engine, gpa, data, room)
			    : gdb_ops(session)->read(session->engine, gpa, data, room);
	return err ? err : (int)room;
}

/* As much as there is: how many bytes. -errno: none at all. */
static int access_memory(struct gdb_session *session, u64 address, u8 *data, u64 length, bool write)
{
	u64 done = 0;

	while (done < length) {
		int n = access_page(session, address + done, data + done, length - done, write);

		if (n < 0)
			return done ? (int)done : n;
		done += n;
	}
	return (int)done;
}

static int read_memory(struct gdb_session *session, struct gdb_text *text, u8 *data, u64 room)
{
	u64 address, length;

	if (!gdb_take_range(text, &address, &length) || text->at != text->end)
		return -EINVAL;
	return access_memory(session, address, data, MIN(length, room), false);
}

int gdb_command_read(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	u8 data[GDB_PAYLOAD_MAX / 2];
	int n = read_memory(session, text, data, sizeof(data));

	if (n < 0)
		return n;
	gdb_put_hex(reply, data, n);
	return 0;
}

int gdb_command_read_binary(struct gdb_session *session, struct gdb_text *text,
			    struct gdb_reply *reply)
{
	u8 data[GDB_PAYLOAD_MAX - 1];
	int n = read_memory(session, text, data, sizeof(data));

	if (n < 0)
		return n;
	gdb_put(reply, "b");
	gdb_put_binary(reply, data, n);
	return 0;
}

static int write_memory(struct gdb_session *session, u64 address, u8 *data, u64 length,
			struct gdb_reply *reply)
{
	int n = access_memory(session, address, data, length, true);

	if (n < 0)
		return n;
	if ((u64)n < length)
		return -EFAULT;
	gdb_put(reply, "OK");
	return 0;
}

int gdb_command_write(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	u8 data[GDB_PAYLOAD_MAX / 2];
	u64 address, length;

	if (!gdb_take_range(text, &address, &length) || !gdb_skip(text, ":") ||
	    length > sizeof(data) || !gdb_take_hex(text, data, length))
		return -EINVAL;
	return write_memory(session, address, data, length, reply);
}

int gdb_command_write_binary(struct gdb_session *session, struct gdb_text *text,
			     struct gdb_reply *reply)
{
	u8 data[GDB_PAYLOAD_MAX];
	u64 address, length;

	if (!gdb_take_range(text, &address, &length) || !gdb_skip(text, ":") ||
	    length != (u64)(text->end - text->at))
		return -EINVAL;
	memcpy(data, text->at, length);
	return write_memory(session, address, data, length, reply);
}

/* ------------------------------------------------------------------ points */

static bool same_point(const struct debug_point *a, const struct debug_point *b)
{
	return a->kind == b->kind && a->address == b->address && a->length == b->length;
}

static struct gdb_point *find_point(struct gdb_session *session, const struct debug_point *point)
{
	for (unsigned i = 0; i < session->point_count; i++)
		if (same_point(&session->points[i].point, point))
			return &session->points[i];
	return NULL;
}

/* Z0 to Z4. A processor that watches for reads alone there is not: GDB can do with Z4. */
static bool take_point(struct gdb_text *text, struct debug_point *point)
{
	if (gdb_skip(text, "0,"))
		point->kind = DEBUG_CODE;
	else if (gdb_skip(text, "1,"))
		point->kind = DEBUG_CODE_HARD;
	else if (gdb_skip(text, "2,"))
		point->kind = DEBUG_WRITE;
	else if (gdb_skip(text, "4,"))
		point->kind = DEBUG_ACCESS;
	else
		return false;
	return gdb_take_range(text, &point->address, &point->length);
}

int gdb_command_insert(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	struct debug_point point;
	int err;

	if (*text->at == '3')
		return UNKNOWN;
	if (!take_point(text, &point) || !point.length)
		return -EINVAL;
	if (!find_point(session, &point)) {
		if (session->point_count == GDB_POINTS)
			return -ENOSPC;
		err = gdb_ops(session)->add_point(session->engine, session->general, &point);
		if (err)
			return err;
		session->points[session->point_count++] = (struct gdb_point){point, true};
	}
	gdb_put(reply, "OK");
	return 0;
}

void gdb_remove_point(struct gdb_session *session, struct gdb_point *point)
{
	if (point->set)
		gdb_ops(session)->remove_point(session->engine, &point->point);
	*point = session->points[--session->point_count];
}

int gdb_command_remove(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	struct debug_point point;
	struct gdb_point *found;

	if (*text->at == '3')
		return UNKNOWN;
	if (!take_point(text, &point))
		return -EINVAL;
	found = find_point(session, &point);
	if (found)
		gdb_remove_point(session, found);
	gdb_put(reply, "OK");
	return 0;
}
