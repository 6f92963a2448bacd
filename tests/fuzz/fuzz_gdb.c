/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Anything at all from a debugger: packets and commands (gdb/protocol.h, gdb/session.h) in front of
 * an engine that aborts when it is used against its rules (fake_debug.h). Each reply has to survive
 * its own frame.
 *
 * Input: lines. One that begins with '!' is what happens to the guest; any other is a packet's
 * payload, which gets its frame here, or the fuzzer would be busy with checksums. After "!raw" the
 * rest goes to the receiver as it is.
 */
#include "input.h"

#include "fake_debug.h"
#include "gdb/session.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static struct fake_debug fake;
static struct gdb_session session;
static struct gdb_receiver receiver;
static struct gdb_reply reply;
static char frame[GDB_FRAME_MAX];

static void must_survive(void)
{
	static struct gdb_receiver other;
	const size_t length = gdb_frame(&reply, frame);
	enum gdb_event event = GDB_NOTHING;

	for (size_t i = 0; i < length; i++) {
		MUST(event == GDB_NOTHING);
		event = gdb_receive(&other, frame[i]);
	}
	MUST(event == GDB_PACKET && other.length == reply.length);
	MUST(!memcmp(other.payload, reply.payload, reply.length));
}

static void take_byte(u8 byte)
{
	bool replies = false;

	gdb_reply_begin(&reply);
	switch (gdb_receive(&receiver, byte)) {
	case GDB_PACKET:
		MUST(receiver.length <= GDB_PAYLOAD_MAX && !receiver.payload[receiver.length]);
		replies = gdb_session_packet(&session, receiver.payload, receiver.length, &reply);
		break;
	case GDB_INTERRUPT:
		replies = gdb_session_interrupt(&session, &reply);
		break;
	default:
		break;
	}
	if (replies)
		must_survive();
	MUST(session.general < FAKE_DEBUG_VCPUS && session.stepped < FAKE_DEBUG_VCPUS);
}

/* Some vCPU that runs meets something. */
static void stop_one(u8 how)
{
	const unsigned vcpu = how % FAKE_DEBUG_VCPUS;
	struct debug_point point = {DEBUG_WRITE, how * 0x10, 8};

	if (session.point_count)
		point = session.points[how % session.point_count].point;
	if (fake.actions[vcpu] == DEBUG_STAY)
		return;
	fake_debug_stop(&fake, vcpu, how / 4 % 3, &point);
}

static void happen(const char *what, size_t length)
{
	gdb_reply_begin(&reply);
	if (!length)
		return;
	switch (what[0]) {
	case 's':
		stop_one(what[length - 1]);
		break;
	case 'h':
		if (gdb_session_stopped(&session, &reply))
			must_survive();
		break;
	case 'l':
		gdb_session_end(&session);
		/* By `k`: then nobody waits for vCPUs, or for another debugger. */
		if (machine_stopped(&fake.machine))
			break;
		MUST(!fake.point_count);
		MUST(!gdb_session_begin(&session));
		break;
	case 'p':
		fake_debug_reset(&fake);
		gdb_session_power_on(&session);
		fake.off = false;
		break;
	default:
		break;
	}
}

static void take_line(const u8 *line, size_t length)
{
	gdb_reply_begin(&reply);
	gdb_put_binary(&reply, line, MIN(length, GDB_PAYLOAD_MAX));
	length = gdb_frame(&reply, frame);
	for (size_t i = 0; i < length; i++)
		take_byte(frame[i]);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	fake_debug_init(&fake, 0x2e7);
	receiver = (struct gdb_receiver){.state = GDB_BETWEEN};
	MUST(!gdb_session_init(&session, &fake.engine, &fake.machine, FAKE_DEBUG_VCPUS, size & 1));
	gdb_session_power_on(&session);
	MUST(!gdb_session_begin(&session));
	while (size) {
		const u8 *end = memchr(data, '\n', size);
		const size_t length = end ? (size_t)(end - data) : size;

		if (length >= 4 && !memcmp(data, "!raw", 4)) {
			for (size_t i = 4; i < size; i++)
				take_byte(data[i]);
			break;
		}
		if (length && data[0] == '!')
			happen((const char *)data + 1, length - 1);
		else
			take_line(data, length);
		size -= MIN(size, length + 1);
		data += length + 1;
	}
	gdb_session_end(&session);
	gdb_session_destroy(&session);
	fake_debug_destroy(&fake);
	return 0;
}
