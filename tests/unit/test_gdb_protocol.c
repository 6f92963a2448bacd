/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packets of GDB's remote protocol: framing, checksums, escapes, numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gdb/protocol.h"

#include <stdio.h>
#include <string.h>

static struct gdb_receiver receiver;
static struct gdb_reply reply;

/* Give it all; the last event that was one. */
static enum gdb_event give(const char *bytes, size_t length)
{
	enum gdb_event last = GDB_NOTHING;

	for (size_t i = 0; i < length; i++) {
		enum gdb_event event = gdb_receive(&receiver, bytes[i]);

		if (event != GDB_NOTHING)
			last = event;
	}
	return last;
}

static void assert_packet(const char *bytes, const char *payload, size_t length)
{
	assert_int_equal(give(bytes, strlen(bytes)), GDB_PACKET);
	assert_int_equal(receiver.length, length);
	assert_memory_equal(receiver.payload, payload, length);
	assert_int_equal(receiver.payload[length], 0);
}

static void test_packets(void **state)
{
	(void)state;
	assert_packet("$g#67", "g", 1);
	assert_packet("$#00", "", 0);
	assert_packet("$m0,4#FD", "m0,4", 4);
	/* What is lost before the end is begun anew. */
	assert_packet("$m0,$g#67", "g", 1);
	/* '}' and the next byte with bit 5 turned: $ # } itself. */
	assert_packet("$}\x04}\x03}]#db", "$#}", 3);
	assert_packet("rubbish$g#67", "g", 1);
}

static void test_damage(void **state)
{
	(void)state;
	assert_int_equal(give("$g#68", 5), GDB_BAD_PACKET);
	assert_int_equal(give("$g#6x", 5), GDB_BAD_PACKET);
	assert_int_equal(give("$g#x", 4), GDB_BAD_PACKET);
	assert_packet("$g#67", "g", 1);
}

static void test_between(void **state)
{
	(void)state;
	assert_int_equal(give("+", 1), GDB_ACK);
	assert_int_equal(give("-", 1), GDB_NAK);
	assert_int_equal(give("\x03", 1), GDB_INTERRUPT);
	assert_int_equal(give("\xff\0 ", 3), GDB_NOTHING);
	/* Within a packet it is a byte like any other. */
	assert_packet("$X\x03#5b", "X\x03", 2);
}

static void test_too_long(void **state)
{
	(void)state;
	assert_int_equal(give("$", 1), GDB_NOTHING);
	for (unsigned i = 0; i < GDB_PAYLOAD_MAX; i++)
		assert_int_equal(gdb_receive(&receiver, 0), GDB_NOTHING);
	assert_int_equal(give("#00", 3), GDB_PACKET);
	assert_int_equal(receiver.length, GDB_PAYLOAD_MAX);
	assert_int_equal(give("$", 1), GDB_NOTHING);
	for (unsigned i = 0; i <= GDB_PAYLOAD_MAX; i++)
		assert_int_equal(gdb_receive(&receiver, 0), GDB_NOTHING);
	assert_int_equal(give("#00", 3), GDB_BAD_PACKET);
	assert_packet("$g#67", "g", 1);
}

/* Whatever the bytes, they arrive. */
static void test_there_and_back(void **state)
{
	static char frame[GDB_FRAME_MAX];
	static u8 all[GDB_PAYLOAD_MAX];
	size_t length;

	(void)state;
	for (unsigned i = 0; i < sizeof(all); i++)
		all[i] = i * 7 >> 3;
	gdb_reply_begin(&reply);
	gdb_put_binary(&reply, all, sizeof(all));
	assert_false(reply.full);
	length = gdb_frame(&reply, frame);
	assert_int_equal(give(frame, length), GDB_PACKET);
	assert_int_equal(receiver.length, sizeof(all));
	assert_memory_equal(receiver.payload, all, sizeof(all));
	/* No byte may be taken for the end, or for a run length. */
	for (size_t i = 1; i < length - 3; i++)
		assert_null(memchr("$#*", frame[i], 3));

	memset(all, '}', sizeof(all));
	gdb_reply_begin(&reply);
	gdb_put_binary(&reply, all, sizeof(all));
	assert_int_equal(gdb_frame(&reply, frame), GDB_FRAME_MAX);
}

static void test_reply(void **state)
{
	char frame[GDB_FRAME_MAX];

	(void)state;
	gdb_reply_begin(&reply);
	gdb_put(&reply, "T%02x", 5);
	gdb_put_hex(&reply, "\xff\x01z", 3);
	assert_int_equal(gdb_frame(&reply, frame), 13);
	assert_memory_equal(frame, "$T05ff017a#7e", 13);
	while (!reply.full)
		gdb_put_hex(&reply, "12345678", 8);
	assert_true(reply.length <= GDB_PAYLOAD_MAX);
}

static struct gdb_text text_of(const char *text)
{
	return (struct gdb_text){text, text + strlen(text)};
}

static void test_numbers(void **state)
{
	struct gdb_text text = text_of("Ff,0000000000000000001;ffffffffffffffff,");
	u8 bytes[2];
	u64 value;

	(void)state;
	assert_true(gdb_take_number(&text, &value) && value == 0xff);
	assert_false(gdb_take_number(&text, &value));
	assert_false(gdb_skip(&text, ",1"));
	assert_true(gdb_skip(&text, ","));
	assert_true(gdb_take_number(&text, &value) && value == 1);
	assert_true(gdb_skip(&text, ";"));
	assert_true(gdb_take_number(&text, &value) && value == ~0ull);
	text = text_of("10000000000000000");
	assert_false(gdb_take_number(&text, &value));
	text = text_of("");
	assert_false(gdb_take_number(&text, &value));
	assert_false(gdb_skip(&text, "x"));

	text = text_of("01fE2");
	assert_true(gdb_take_hex(&text, bytes, 2));
	assert_true(bytes[0] == 1 && bytes[1] == 0xfe);
	assert_false(gdb_take_hex(&text, bytes, 1));
	text = text_of("0g");
	assert_false(gdb_take_hex(&text, bytes, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_packets),	       cmocka_unit_test(test_damage),
		cmocka_unit_test(test_between),	       cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_reply),
		cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
