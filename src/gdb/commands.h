/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of a session: what the files with its commands share.
 *
 *   session.c  stopping, going on, and who is asked for which letter
 *   inspect.c  registers, memory, breakpoints and watchpoints
 *   queries.c  threads, and what GDB wants to know of us
 *
 * Tour 8.92
 */
#ifndef GDB_COMMANDS_H
#define GDB_COMMANDS_H

#include "gdb/session.h"

#define ANY_THREAD  0
#define ALL_THREADS (~0ull)

/* "No reply", among the -errno of a command. */
#define SILENT 1

/* Nobody knows the command. */
#define UNKNOWN (-ENOSYS)

/* -errno, SILENT or UNKNOWN; 0: there is a reply. What is left of the payload is in `text`. */
typedef int command(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply);

static inline const struct debug_ops *gdb_ops(const struct gdb_session *session)
{
	return session->engine->ops->debug;
}

/* ------------------------------------------------------------------ session.c */

/* A thread's number, ANY_THREAD and ALL_THREADS included. */
bool gdb_take_thread(const struct gdb_session *session, struct gdb_text *text, u64 *thread);
/* As three ^C would. */
void gdb_end_machine(struct gdb_session *session);

/* ------------------------------------------------------------------ inspect.c */

command gdb_command_get_all;
command gdb_command_set_all;
command gdb_command_get_one;
command gdb_command_set_one;
command gdb_command_read;
command gdb_command_read_binary;
command gdb_command_write;
command gdb_command_write_binary;
command gdb_command_insert;
command gdb_command_remove;
void gdb_remove_point(struct gdb_session *session, struct gdb_point *point);

/* ------------------------------------------------------------------ queries.c */

command gdb_command_thread;
command gdb_command_alive;
command gdb_command_query;

#endif
