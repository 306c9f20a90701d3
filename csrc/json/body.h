/* The userdata that holds a request's JSON. Both libraries know it by its type's name: core makes and sends it (see
 * http/request_body.c), spool fills it. */
#ifndef TB_BODY_H
#define TB_BODY_H

#include "base/buffer.h"

#define TB_BODY "thingsboard.body"

struct tb_body {
  const char *type;
  struct tb_buffer buffer;
  bool open;
};

#endif
