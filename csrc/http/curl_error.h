/* Names and texts of libcurl's errors. */
#ifndef TB_CURL_ERROR_H
#define TB_CURL_ERROR_H

/* The name of a CURLcode without `CURLE_`; NULL for a code that cannot come about, or is newer than this file. */
const char *tb_curl_error_name(int code);

/* What a code means: the text of an error that libcurl itself has given no text. */
const char *tb_curl_error_text(int code);

#endif
